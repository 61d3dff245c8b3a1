"""Which candidate of which request runs in which slot, without tensors or a clock.

All candidates of a request make the same number of tokens, known in advance, at least one per step. A slot is therefore
busy for at most a known number of steps: nothing is ever paged out or pre-empted, and progress is exact.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from t2i.engine.request import Request, TokenProgress
from t2i.engine.turns import Turns
from t2i.sampling import RequestError

TURNS = 8
"""Turns that fit into the slots at once."""

UNCONDITIONAL: tuple[int, ...] = ()
"""The empty text, which the unconditional twin of a guided candidate reads."""


@dataclass(eq=False)
class ScheduledRequest:
    """A request in the engine: its candidates that still wait for a slot, and the new tokens of each candidate."""

    request: Request
    tokens_per_candidate: int
    waiting: deque[int] = field(init=False)
    tokens_made: list[int] = field(init=False)
    tokens_done: int = 0
    tokens_total: int = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = deque(range(self.request.candidates))
        self.tokens_made = [0] * self.request.candidates
        self.tokens_total = self.request.candidates * self.tokens_per_candidate

    @property
    def progress(self) -> TokenProgress:
        """New tokens over all candidates; the total is without those that dropped candidates will never make."""
        return TokenProgress(self.tokens_done, self.tokens_total)


@dataclass(eq=False)
class RunningCandidate:
    """A candidate in its ``slot``; a guided one has an unconditional ``twin`` in a second slot, others None."""

    scheduled: ScheduledRequest
    candidate: int
    slot: int
    twin: int | None

    @property
    def request(self) -> Request:
        """The request it belongs to."""
        return self.scheduled.request

    @property
    def tokens(self) -> int:
        """How many image tokens it has, including the request's prefix."""
        return len(self.request.prefix) + self.scheduled.tokens_made[self.candidate]

    @property
    def is_finished(self) -> bool:
        """Whether it has all its image tokens."""
        return self.scheduled.tokens_made[self.candidate] == self.scheduled.tokens_per_candidate


class Scheduler:
    """Admits waiting candidates into free slots; clients take turns.

    At most ``captions`` different texts run at once.
    """

    def __init__(self, slots: int, captions: int, image_length: int) -> None:
        self.slots, self.captions = slots, captions
        self.image_length = image_length
        self.running: dict[int, RunningCandidate] = {}  # by slot
        self._free = list(reversed(range(slots)))
        self._turns = Turns(max(1, slots // TURNS))
        self._requests: dict[str, ScheduledRequest] = {}
        self._texts: Counter[tuple[int, ...]] = Counter()  # how many candidates are reading each text

    @property
    def slots_used(self) -> int:
        """How many slots hold a candidate; a guided one takes two."""
        return self.slots - len(self._free)

    @property
    def idle_slots(self) -> list[int]:
        """The slots that hold no candidate, in ascending order."""
        return sorted(self._free)

    @property
    def has_work(self) -> bool:
        """Whether any request is waiting or running."""
        return bool(self._requests)

    def add(self, request: Request) -> None:
        """Queue every candidate of ``request``.

        Raises:
            RequestError: a request with that id is already queued or running, or there are too few slots or captions
                for it even in an idle engine.
        """
        if request.id in self._requests:
            raise RequestError("id", f"request id {request.id!r} is in use: choose another.")
        if request.sampling.is_guided and min(self.slots, self.captions) < 2:
            raise RequestError(
                "guidance", "guidance takes two slots and captions but the engine has one: give it more, or use 1."
            )
        scheduled = ScheduledRequest(request, self.image_length - len(request.prefix))
        self._requests[request.id] = scheduled
        self._turns.add(scheduled)

    def expire(self, now: float) -> dict[str, int]:
        """Remove requests whose deadline is ``now`` (Unix time) or earlier; return id -> image tokens spent on it."""
        late = [scheduled.request.id for scheduled in self._requests.values() if scheduled.request.deadline <= now]
        return {request_id: self.cancel(request_id) for request_id in late}

    def admit(self) -> list[RunningCandidate]:
        """Move waiting candidates into free slots until the next one does not fit; return those that were moved."""
        # The first in line that does not fit stops everybody behind it. Letting smaller ones overtake would use more
        # slots, but a guided request, which needs two slots at once, or one of a new caption might then never start.
        admitted: list[RunningCandidate] = []
        in_use: Counter[str] = Counter()
        for running in self.running.values():
            in_use[running.request.client] += _slots_of(running.request)
        while (scheduled := self._turns.next(in_use)) and self._fits(scheduled.request):
            slot, twin = self._free.pop(), self._free.pop() if scheduled.request.sampling.is_guided else None
            admitted.append(RunningCandidate(scheduled, self._turns.take(scheduled), slot, twin))
            self._texts.update(_texts(scheduled.request))
            in_use[scheduled.request.client] += _slots_of(scheduled.request)
        _place_side_by_side(admitted)
        self.running |= {running.slot: running for running in admitted}
        return admitted

    def advance(self, accepted: Mapping[int, int] | None = None) -> list[RunningCandidate]:
        """Count the new tokens of every running candidate; free the slots of those now finished and return them.

        ``accepted`` says how many there are, by slot; a candidate that is not in it has one.
        """
        for slot, running in self.running.items():
            made = accepted.get(slot, 1) if accepted else 1
            running.scheduled.tokens_made[running.candidate] += made
            running.scheduled.tokens_done += made
        finished = [running for running in self.running.values() if running.is_finished]
        for running in finished:
            self._release(running)
            self._forget_if_done(running.scheduled)
        return finished

    def cancel(self, request_id: str) -> int:
        """Remove a request with all its candidates; return the image tokens spent on it (0 if it is not here)."""
        if request_id not in self._requests:
            return 0
        scheduled = self._requests[request_id]
        self.drop(request_id, range(scheduled.request.candidates))
        return scheduled.tokens_done

    def drop(self, request_id: str, candidates: Collection[int]) -> int:
        """Stop some candidates of a request; return how many image tokens need not be made because of that.

        The request ends when its other candidates are finished.
        """
        scheduled = self._requests.get(request_id)
        if scheduled is None:
            return 0
        # A dropped candidate is in one of three states. Waiting: all its tokens are saved. Running: its slot falls
        # free, the tokens it lacks are saved. Finished: nothing to do. What is saved leaves tokens_total, so that
        # progress still ends with tokens_done == tokens_total, by which a request is known to be done.
        stopped = [r for r in self.running.values() if r.scheduled is scheduled and r.candidate in candidates]
        for running in stopped:
            self._release(running)
        waiting = [candidate for candidate in scheduled.waiting if candidate in candidates]
        scheduled.waiting = deque(candidate for candidate in scheduled.waiting if candidate not in candidates)
        if not scheduled.waiting and scheduled in self._turns:
            self._turns.remove(scheduled)
        saved = sum(
            scheduled.tokens_per_candidate - scheduled.tokens_made[candidate]
            for candidate in [*waiting, *(running.candidate for running in stopped)]
        )
        scheduled.tokens_total -= saved
        self._forget_if_done(scheduled)
        return saved

    def progress(self, request_id: str) -> TokenProgress:
        """Return how many new image tokens of a waiting or running request are done, and how many there will be."""
        return self._requests[request_id].progress

    def candidate_progress(self, request_id: str) -> list[TokenProgress]:
        """Return the same as :meth:`progress` for each candidate of a request that is waiting or running."""
        scheduled = self._requests[request_id]
        return [TokenProgress(made, scheduled.tokens_per_candidate) for made in scheduled.tokens_made]

    def _fits(self, request: Request) -> bool:
        """Return whether there are slots for one more candidate of ``request`` and room for the texts that it reads."""
        new_texts = sum(text not in self._texts for text in _texts(request))
        return len(self._free) >= _slots_of(request) and len(self._texts) + new_texts <= self.captions

    def _forget_if_done(self, scheduled: ScheduledRequest) -> None:
        if scheduled.tokens_done == scheduled.tokens_total:
            self._requests.pop(scheduled.request.id, None)

    def _release(self, running: RunningCandidate) -> None:
        del self.running[running.slot]
        self._free.append(running.slot)
        if running.twin is not None:
            self._free.append(running.twin)
        self._texts -= Counter(_texts(running.request))  # in-place subtraction removes texts whose count falls to 0


def _place_side_by_side(admitted: list[RunningCandidate]) -> None:
    """Swap slots among ``admitted`` so that candidates of one caption lie side by side."""
    # Turns mix the captions:  slot     0 1 2 3        The cache attends to each caption with the queries of all its
    #                          before   A B A B        slots as one block. Where these lie in order the block is a
    #                          after    A A B B        view of the queries; else they are gathered and scattered.
    slots = sorted(running.slot for running in admitted)
    for running, slot in zip(sorted(admitted, key=lambda running: running.request.text), slots, strict=True):
        running.slot = slot


def _slots_of(request: Request) -> int:
    """Return how many slots a candidate of ``request`` takes: a guided one has a twin."""
    return 1 + request.sampling.is_guided


def _texts(request: Request) -> set[tuple[int, ...]]:
    """Return the texts that one candidate of ``request`` and its twin, if it is guided, read."""
    return {request.text, UNCONDITIONAL} if request.sampling.is_guided else {request.text}
