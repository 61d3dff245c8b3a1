"""Whose candidate is the next to get a slot: clients share the slots evenly, and a client's requests take turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t2i.engine.scheduler import ScheduledRequest


class Turns:
    """The requests of each client with candidates that wait for a slot."""

    def __init__(self) -> None:
        self._requests: dict[str, deque[ScheduledRequest]] = {}  # by client, whoever was served last at the end

    def __contains__(self, scheduled: ScheduledRequest) -> bool:
        return scheduled in self._requests.get(scheduled.request.client, ())

    def add(self, scheduled: ScheduledRequest) -> None:
        """Put a request behind those of its client."""
        self._requests.setdefault(scheduled.request.client, deque()).append(scheduled)

    def next(self, slots_in_use: Mapping[str, int]) -> ScheduledRequest | None:
        """Return the request whose turn it is: the next of the client with the fewest slots in use."""
        # A client with 32 requests of 64 candidates has no more slots than one with a single request, as long as both
        # have candidates that wait. Among clients with equally many the one that was served last comes last.
        #
        #     waiting  x: A3 B1   y: C2     slots  .....
        #              x: B1 A2   y: C2            A....
        #              x: B1 A2   y: C1            AC...
        #              x: A2      y: C1            ACB..
        #              x: A2                       ACBC.
        #              x: A1                       ACBCA
        client = min(self._requests, key=lambda client: slots_in_use.get(client, 0), default=None)
        return None if client is None else self._requests[client][0]

    def take(self, scheduled: ScheduledRequest) -> int:
        """Return the next waiting candidate of a request, whose turn is then over."""
        candidate = scheduled.waiting.popleft()
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
