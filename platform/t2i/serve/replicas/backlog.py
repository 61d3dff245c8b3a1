"""What a replica of the prior has still to do: can a new request meet its deadline, and how long do others take?"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from t2i.engine.request import Request
from t2i.serve.messages import QueueFullError

SLACK = 1.25
"""A request has to have so many times the time that sampling it should take: decoding and ranking take CPUs from it.
Filled up to the deadline itself, a queue would let all that wait in it be a little late."""


@dataclass
class _Outstanding:
    """A request, and how many of its new tokens are left to make; ``begun`` from the first one on."""

    request: Request
    tokens_left: int
    begun: bool = False

    @property
    def slot_steps(self) -> int:
        """How many steps of one slot are left; a guided candidate takes two slots."""
        return self.tokens_left * (1 + self.request.sampling.is_guided)


class Backlog:
    """The requests of one engine of ``slots`` slots, a step of which takes ``seconds_per_step`` (0 if not yet known).

    A step makes ``tokens_per_step`` image tokens of a candidate: more than one while idle slots draft.

    Clients share the slots evenly: until one's own work is done, each other client gets as many slots. So of their work
    only as much as one's own comes before the end of one's own (four slots, a letter a slot step):

        own  aaaa        before the end  aaaa bbbb cc        (4 + 4 + 2) / 4 steps
        b    bbbbbbbb
        c    cc
    """

    def __init__(self, slots: int, image_length: int, seconds_per_step: float = 0.0) -> None:
        self.seconds_per_step, self.tokens_per_step = seconds_per_step, 1.0
        self._slots = slots
        self._image_length = image_length
        self._requests: dict[str, _Outstanding] = {}  # in the order of their arrival

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def slot_steps(self) -> int:
        """How many steps of one slot are left to make for all requests."""
        return sum(each.slot_steps for each in self._requests.values())

    def check(self, request: Request, now: float, ranking_s: float = 0.0) -> None:
        """Do nothing, if a request would meet its deadline that is ranked for ``ranking_s`` seconds afterwards.

        One that comes to an idle engine is tried, however little time it has.

        Raises:
            QueueFullError: what is here already leaves it too little time before its deadline (Unix time, as ``now``).
        """
        late = now + SLACK * self._seconds(self._outstanding(request), is_new=True) + ranking_s - request.deadline
        if late > 0 and self._requests:
            raise QueueFullError(late)

    def add(self, request: Request) -> None:
        """Take up a request."""
        self._requests[request.id] = self._outstanding(request)

    def note_steps(self, seconds: float, steps: float = 1.0, tokens: float = 1.0) -> None:
        """Note that steps took ``seconds`` each, and made so many ``tokens`` of a candidate.

        One weighs a twentieth, as prefills make single steps long.
        """
        known, weight = self.seconds_per_step, 1 - (1 - 1 / 20) ** steps
        self.seconds_per_step = known + (seconds - known) * weight if known else seconds
        self.tokens_per_step += (tokens - self.tokens_per_step) * weight

    def update(self, request_id: str, tokens_left: int) -> None:
        """Note that a request has begun, and how many new tokens are left."""
        outstanding = self._requests[request_id]
        outstanding.tokens_left, outstanding.begun = tokens_left, True

    def remove(self, request_id: str) -> None:
        """Forget a request."""
        self._requests.pop(request_id, None)

    def seconds_left(self, request_id: str) -> float:
        """Return about how long a request will take from now on; 0 if the time of a step is not known yet."""
        return self._seconds(self._requests[request_id], is_new=False)

    def position(self, request_id: str) -> int:
        """Return a request's place among those that wait for their first token, from 1; 0 if it has begun."""
        if self._requests[request_id].begun:
            return 0
        waiting = [name for name, each in self._requests.items() if not each.begun]
        return 1 + waiting.index(request_id)

    def _outstanding(self, request: Request) -> _Outstanding:
        return _Outstanding(request, request.candidates * (self._image_length - len(request.prefix)))

    def _seconds(self, outstanding: _Outstanding, is_new: bool) -> float:
        """Return how long it takes until all of the client's work is done, were nothing else to arrive."""
        by_client: dict[str, int] = defaultdict(int)
        for each in self._requests.values():
            by_client[each.request.client] += each.slot_steps
        client = outstanding.request.client
        own = by_client.pop(client, 0) + is_new * outstanding.slot_steps
        before = own + sum(min(theirs, own) for theirs in by_client.values())
        longest = outstanding.tokens_left / outstanding.request.candidates / self.tokens_per_step  # of one candidate
        return max(before / self._slots, longest) * self.seconds_per_step
