"""Whose candidate gets the next slot: clients share them evenly, and a client's requests come one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t2i.engine.scheduler import ScheduledRequest


class Turns:
    """The requests with candidates that wait for a slot; a client's turn is some candidates in a row.

    The more of the running candidates read the same text, the shorter is a step; but the longer others wait.
    """

    def __init__(self, turn: int) -> None:
        self._turn = turn
        self._clients: dict[str, ClientQueue] = {}  # whoever was served last at the end

    def __contains__(self, scheduled: ScheduledRequest) -> bool:
        return scheduled in self._clients.get(scheduled.request.client, ())

    def add(self, scheduled: ScheduledRequest) -> None:
        """Take up a request."""
        self._clients.setdefault(scheduled.request.client, ClientQueue()).add(scheduled)

    def next(self, slots_in_use: Mapping[str, int]) -> ScheduledRequest | None:
        """Return the request whose turn it is: the first of the client with the fewest turns' slots in use."""
        # A client with 32 requests of 64 candidates has no more slots than one with a single request, as long as both
        # have candidates that wait, give or take a turn. Among clients with equally many the one that was served last
        # comes last. With turns of two candidates:
        #
        #     waiting  x: A3 B1   y: C3     slots  ......
        #              x: A1 B1   y: C3            AA....
        #              x: A1 B1   y: C1            AACC..
        #              x: B1      y: C1            AACCA.
        #              x: B1                       AACCAC
        client = min(self._clients, key=lambda client: slots_in_use.get(client, 0) // self._turn, default=None)
        return None if client is None else self._clients[client].first

    def take(self, scheduled: ScheduledRequest) -> int:
        """Return the next waiting candidate of a request; with the last one of a turn, its client comes last."""
        client = scheduled.request.client
        queue = self._clients[client]
        candidate = queue.take(scheduled)
        if queue.taken % self._turn == 0:
            self._clients[client] = self._clients.pop(client)
        self._forget_if_served(client)
        return candidate

    def remove(self, scheduled: ScheduledRequest) -> None:
        """Forget a request that is here."""
        self._clients[scheduled.request.client].remove(scheduled)
        self._forget_if_served(scheduled.request.client)

    def _forget_if_served(self, client: str) -> None:
        if self._clients[client].first is None:
            del self._clients[client]


class ClientQueue:
    """A client's requests, in the order in which they would end if they shared its slots evenly.

    They are served one after the other in that order, so that none ends later than by sharing, and most end far
    earlier: if they shared the slots, requests of equal size would all end together, at last, which may be after their
    deadlines. A small one still overtakes a large one, but small ones that keep coming do not hold it up for ever
    (Friedman and Henderson 2003, "Fairness and efficiency in web server protocols").
    """

    # A request has its last candidate when an even share of all candidates so far, counted from its arrival, is as
    # large as the request. A has 4 candidates; B has 2 and comes when A had one:
    #
    #     candidates        1   2   3   4   5   6
    #     even share    0   1  1.5  2  2.5  3   4     ends at B's 1 + 2 = 3, and at A's 0 + 4
    #     served            A   B   B   A   A   A     B ends earlier than by sharing, A at the same time

    def __init__(self) -> None:
        self.taken = 0  # candidates
        self._share = 0.0  # candidates that a request would have had by now, had it always been here
        self._ends: dict[ScheduledRequest, float] = {}  # at which share; those served already share until then

    def __contains__(self, scheduled: ScheduledRequest) -> bool:
        return scheduled in self._ends

    @property
    def first(self) -> ScheduledRequest | None:
        """The request to serve, if there is one with candidates that wait: of those that end together, the oldest."""
        waiting = (scheduled for scheduled in self._ends if scheduled.waiting)
        return min(waiting, key=self._ends.__getitem__, default=None)

    def add(self, scheduled: ScheduledRequest) -> None:
        """Take up a request."""
        self._ends[scheduled] = self._share + len(scheduled.waiting)

    def remove(self, scheduled: ScheduledRequest) -> None:
        """Forget a request that is here."""
        del self._ends[scheduled]

    def take(self, scheduled: ScheduledRequest) -> int:
        """Return the next waiting candidate of a request."""
        self.taken += 1
        self._share += 1 / max(1, sum(end > self._share for end in self._ends.values()))
        candidate = scheduled.waiting.popleft()
        self._ends = {each: end for each, end in self._ends.items() if each.waiting or end > self._share}
        return candidate
