"""Which candidate of which request runs in which slot. Knows no tensors.

Every candidate of a request makes the same known number of tokens, so a slot is busy for exactly as many steps: no
paging, no pre-emption, and progress is exact.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from t2i.engine.request import Progress, Request, RequestError


@dataclass
class Running:
    """One candidate in its slot; a guided one has an uncaptioned ``twin`` in another. ``made`` new tokens so far."""

    request: Request
    candidate: int
    slot: int
    twin: int | None
    made: int = 0


class Scheduler:
    """Admits waiting candidates into free slots, one request after the other in turn."""

    def __init__(self, slots: int, image_length: int) -> None:
        self.slots = slots
        self.image_length = image_length
        self.running: dict[int, Running] = {}
        self._free = list(reversed(range(slots)))
        self._waiting: deque[tuple[Request, deque[int]]] = deque()
        self._tokens_done: dict[str, int] = {}
        self._requests: dict[str, Request] = {}

    @property
    def has_work(self) -> bool:
        return bool(self._requests)

    def add(self, request: Request) -> None:
        """Queue every candidate of ``request``.

        Raises:
            RequestError: a request of that id is already here, or it needs more slots at once than there are.
        """
        if request.id in self._requests:
            raise RequestError("id", f"request id {request.id!r} is in use: choose another.")
        if request.sampling.guides and self.slots < 2:
            raise RequestError("guidance", "guidance takes two slots but the engine has one: give it more, or use 1.")
        self._requests[request.id] = request
        self._tokens_done[request.id] = 0
        self._waiting.append((request, deque(range(request.candidates))))

    def admit(self) -> list[Running]:
        """Fill free slots; requests take turns, so that one of 512 candidates does not shut out one of 1."""
        admitted = []
        while self._waiting and len(self._free) > self._waiting[0][0].sampling.guides:
            request, candidates = self._waiting.popleft()
            slot, twin = self._free.pop(), self._free.pop() if request.sampling.guides else None
            running = Running(request, candidates.popleft(), slot, twin)
            self.running[slot] = running
            admitted.append(running)
            if candidates:
                self._waiting.append((request, candidates))
        return admitted

    def advance(self) -> list[Running]:
        """Count one token for every running candidate; free the slots of those that are whole and return them."""
        for running in self.running.values():
            running.made += 1
            self._tokens_done[running.request.id] += 1
        whole = [running for running in self.running.values() if running.made == self._to_make(running.request)]
        for running in whole:
            self._release(running)
        return whole

    def forget_finished(self) -> None:
        """Drop requests whose every token is made."""
        for request_id in list(self._requests):
            progress = self.progress(request_id)
            if progress.tokens_done == progress.tokens_total:
                del self._requests[request_id], self._tokens_done[request_id]

    def cancel(self, request_id: str) -> int:
        """Free the request's slots and places in the queue; return the image tokens spent on it (0 if unknown)."""
        if self._requests.pop(request_id, None) is None:
            return 0
        self._waiting = deque(entry for entry in self._waiting if entry[0].id != request_id)
        for running in [running for running in self.running.values() if running.request.id == request_id]:
            self._release(running)
        return self._tokens_done.pop(request_id)

    def progress(self, request_id: str) -> Progress:
        """Tokens made and to make for a request that is still here."""
        request = self._requests[request_id]
        return Progress(self._tokens_done[request_id], request.candidates * self._to_make(request))

    def _to_make(self, request: Request) -> int:
        return self.image_length - len(request.prefix)

    def _release(self, running: Running) -> None:
        del self.running[running.slot]
        self._free.append(running.slot)
        if running.twin is not None:
            self._free.append(running.twin)
