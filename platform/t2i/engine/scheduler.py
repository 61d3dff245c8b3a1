"""Which candidate of which request runs in which slot. Knows no tensors.

Every candidate of a request makes the same known number of tokens, so a slot is busy for exactly as many steps: no
paging, no pre-emption, and progress is exact.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field

from t2i.engine.request import Request, TokenProgress
from t2i.sampling import RequestError

UNCONDITIONAL: tuple[int, ...] = ()
"""The text that guides: none."""


@dataclass(eq=False)
class Entry:
    """A request in the engine: candidates that wait for a slot, and the new tokens of each."""

    request: Request
    to_make: int
    waiting: deque[int] = field(init=False)
    made: list[int] = field(init=False)
    tokens_done: int = 0
    tokens_total: int = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = deque(range(self.request.candidates))
        self.made = [0] * self.request.candidates
        self.tokens_total = self.request.candidates * self.to_make

    @property
    def progress(self) -> TokenProgress:
        return TokenProgress(self.tokens_done, self.tokens_total)


@dataclass(eq=False)
class RunningCandidate:
    """One candidate in its slot; a guided one has an uncaptioned ``twin`` in another."""

    entry: Entry
    candidate: int
    slot: int
    twin: int | None

    @property
    def request(self) -> Request:
        return self.entry.request

    @property
    def tokens(self) -> int:
        """Image tokens that are there, the prefix included."""
        return len(self.request.prefix) + self.entry.made[self.candidate]

    @property
    def is_whole(self) -> bool:
        return self.entry.made[self.candidate] == self.entry.to_make


class Scheduler:
    """Admits waiting candidates into free slots, one request after the other in turn.

    At most ``captions`` different texts run at once. A request whose turn it is but that does not fit holds up those
    behind it, so that nobody waits for ever.
    """

    def __init__(self, slots: int, captions: int, image_length: int) -> None:
        self.slots, self.captions = slots, captions
        self.image_length = image_length
        self.running: dict[int, RunningCandidate] = {}
        self._free = list(reversed(range(slots)))
        self._turns: deque[Entry] = deque()
        self._entries: dict[str, Entry] = {}
        self._texts: Counter[tuple[int, ...]] = Counter()

    @property
    def has_work(self) -> bool:
        return bool(self._entries)

    def add(self, request: Request) -> None:
        """Queue every candidate of ``request``.

        Raises:
            RequestError: a request of that id is already here, or it needs more than there is at once.
        """
        if request.id in self._entries:
            raise RequestError("id", f"request id {request.id!r} is in use: choose another.")
        if request.sampling.uses_guidance and min(self.slots, self.captions) < 2:
            raise RequestError(
                "guidance", "guidance takes two slots and captions but the engine has one: give it more, or use 1."
            )
        entry = Entry(request, self.image_length - len(request.prefix))
        self._entries[request.id] = entry
        self._turns.append(entry)

    def expire(self, now: float) -> dict[str, int]:
        """Remove requests whose deadline has passed: id -> image tokens spent on it."""
        late = [entry.request.id for entry in self._entries.values() if entry.request.deadline <= now]
        return {request_id: self.cancel(request_id) for request_id in late}

    def admit(self) -> list[RunningCandidate]:
        """Fill free slots; requests take turns, so that one of 512 candidates does not shut out one of 1."""
        admitted: list[RunningCandidate] = []
        while self._turns and self._fits(self._turns[0].request):
            entry = self._turns.popleft()
            slot, twin = self._free.pop(), self._free.pop() if entry.request.sampling.uses_guidance else None
            admitted.append(RunningCandidate(entry, entry.waiting.popleft(), slot, twin))
            self._texts.update(_texts(entry.request))
            if entry.waiting:
                self._turns.append(entry)
        _place_side_by_side(admitted)
        self.running |= {running.slot: running for running in admitted}
        return admitted

    def advance(self) -> list[RunningCandidate]:
        """Count one token for every running candidate; free the slots of those that are whole and return them."""
        for running in self.running.values():
            running.entry.made[running.candidate] += 1
            running.entry.tokens_done += 1
        whole = [running for running in self.running.values() if running.is_whole]
        for running in whole:
            self._release(running)
            self._forget_if_done(running.entry)
        return whole

    def cancel(self, request_id: str) -> int:
        """Free the request's slots and places in the queue; return the image tokens spent on it (0 if unknown)."""
        if request_id not in self._entries:
            return 0
        entry = self._entries[request_id]
        self.drop(request_id, range(entry.request.candidates))
        return entry.tokens_done

    def drop(self, request_id: str, candidates: Collection[int]) -> int:
        """Stop some candidates of a request, which then ends with the others; returns the tokens that this saves."""
        entry = self._entries.get(request_id)
        if entry is None:
            return 0
        stopped = [r for r in self.running.values() if r.entry is entry and r.candidate in candidates]
        for running in stopped:
            self._release(running)
        waiting = [candidate for candidate in entry.waiting if candidate in candidates]
        entry.waiting = deque(candidate for candidate in entry.waiting if candidate not in candidates)
        if not entry.waiting and entry in self._turns:
            self._turns.remove(entry)
        left = [entry.to_make - entry.made[candidate] for candidate in [*waiting, *(r.candidate for r in stopped)]]
        entry.tokens_total -= sum(left)
        self._forget_if_done(entry)
        return sum(left)

    def progress(self, request_id: str) -> TokenProgress:
        """Tokens made and to make for a request that is still here."""
        return self._entries[request_id].progress

    def candidate_progress(self, request_id: str) -> list[TokenProgress]:
        """The same for each of its candidates."""
        entry = self._entries[request_id]
        return [TokenProgress(made, entry.to_make) for made in entry.made]

    def _fits(self, request: Request) -> bool:
        more = sum(text not in self._texts for text in _texts(request))
        return len(self._free) > request.sampling.uses_guidance and len(self._texts) + more <= self.captions

    def _forget_if_done(self, entry: Entry) -> None:
        if entry.tokens_done == entry.tokens_total:
            self._entries.pop(entry.request.id, None)

    def _release(self, running: RunningCandidate) -> None:
        del self.running[running.slot]
        self._free.append(running.slot)
        if running.twin is not None:
            self._free.append(running.twin)
        self._texts -= Counter(_texts(running.request))  # drops what nobody reads any more


def _place_side_by_side(admitted: list[RunningCandidate]) -> None:
    """Deal the slots out anew so that candidates of one caption are neighbours, which saves the cache a sorting."""
    slots = sorted(running.slot for running in admitted)
    for running, slot in zip(sorted(admitted, key=lambda running: running.request.text), slots, strict=True):
        running.slot = slot


def _texts(request: Request) -> set[tuple[int, ...]]:
    """The texts that a candidate of ``request`` reads."""
    return {request.text, UNCONDITIONAL} if request.sampling.uses_guidance else {request.text}
