"""Whose candidate is the next to get a slot: clients share the slots evenly, and a client's requests take turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t2i.engine.scheduler import ScheduledRequest


class Turns:
    """The requests of each client with candidates that wait for a slot; a turn is some candidates in a row.

    The more of the running candidates read the same text, the shorter is a step; but the longer others wait.
    """

    def __init__(self, turn: int) -> None:
        self._turn = turn
        self._requests: dict[str, deque[ScheduledRequest]] = {}  # by client, whoever was served last at the end

    def __contains__(self, scheduled: ScheduledRequest) -> bool:
        return scheduled in self._requests.get(scheduled.request.client, ())

    def add(self, scheduled: ScheduledRequest) -> None:
        """Put a request behind those of its client."""
        self._requests.setdefault(scheduled.request.client, deque()).append(scheduled)

    def next(self, slots_in_use: Mapping[str, int]) -> ScheduledRequest | None:
        """Return the request whose turn it is: the next of the client with the fewest turns' slots in use."""
        # A client with 32 requests of 64 candidates has no more slots than one with a single request, as long as both
        # have candidates that wait, give or take a turn. Among clients with equally many the one that was served last
        # comes last. With turns of two candidates:
        #
        #     waiting  x: A3 B1   y: C3     slots  ......
        #              x: B1 A1   y: C3            AA....
        #              x: B1 A1   y: C1            AACC..
        #              x: A1      y: C1            AACCB.
        #              x: A1                       AACCBC
        client = min(self._requests, key=lambda client: slots_in_use.get(client, 0) // self._turn, default=None)
        return None if client is None else self._requests[client][0]

    def take(self, scheduled: ScheduledRequest) -> int:
        """Return the next waiting candidate of a request; its turn is over with the last, or after so many."""
        candidate = scheduled.waiting.popleft()
        if scheduled.waiting and (scheduled.request.candidates - len(scheduled.waiting)) % self._turn:
            return candidate
        self.remove(scheduled)
        if scheduled.waiting:
            self.add(scheduled)
        client = scheduled.request.client
        if client in self._requests:
            self._requests[client] = self._requests.pop(client)
        return candidate

    def remove(self, scheduled: ScheduledRequest) -> None:
        """Forget a request that is here."""
        requests = self._requests[scheduled.request.client]
        requests.remove(scheduled)
        if not requests:
            del self._requests[scheduled.request.client]
