"""Which candidate of which request runs in which slot. Knows no tensors.

Every candidate makes exactly N tokens, so a slot is busy for exactly N steps: no paging, no pre-emption, and progress
is exact.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from t2i.engine.request import Progress, Request, RequestError


@dataclass
class Running:
    """One candidate in its slot: ``made`` image tokens so far."""

    request: Request
    candidate: int
    slot: int
    made: int = 0


class Scheduler:
    """Admits waiting candidates into free slots, one request after the other in turn."""

    def __init__(self, slots: int, tokens_per_candidate: int) -> None:
        self.tokens_per_candidate = tokens_per_candidate
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
            RequestError: a request of that id is already here.
        """
        if request.id in self._requests:
            raise RequestError("id", f"request id {request.id!r} is in use: choose another.")
        self._requests[request.id] = request
        self._tokens_done[request.id] = 0
        self._waiting.append((request, deque(range(request.candidates))))

    def admit(self) -> list[Running]:
        """Fill free slots; requests take turns, so that one of 512 candidates does not shut out one of 1."""
        admitted = []
        while self._free and self._waiting:
            request, candidates = self._waiting.popleft()
            running = Running(request, candidates.popleft(), self._free.pop())
            self.running[running.slot] = running
            admitted.append(running)
            if candidates:
                self._waiting.append((request, candidates))
        return admitted

    def advance(self) -> list[Running]:
        """Count one token for every running candidate; free the slots of those that are whole and return them."""
        for running in self.running.values():
            running.made += 1
            self._tokens_done[running.request.id] += 1
        whole = [running for running in self.running.values() if running.made == self.tokens_per_candidate]
        for running in whole:
            self._release(running.slot)
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
        for slot in [slot for slot, running in self.running.items() if running.request.id == request_id]:
            self._release(slot)
        return self._tokens_done.pop(request_id)

    def progress(self, request_id: str) -> Progress:
        """Tokens made and to make for a request that is still here."""
        total = self._requests[request_id].candidates * self.tokens_per_candidate
        return Progress(self._tokens_done[request_id], total)

    def _release(self, slot: int) -> None:
        del self.running[slot]
        self._free.append(slot)
