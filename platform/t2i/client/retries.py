"""When a request is sent again: pure rules, the same for both clients and both kinds of call; and what is known then.

A request has a seed, so that it gives the same images wherever and however often it is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc

from t2i.client.answers import Event, GeneratedImage, GenerationProgress, Preview, Summary
from t2i.client.errors import ServiceBusyError, ServiceError

ATTEMPTS = 8
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 2.0
"""How often a lost service is asked, the first time included; for how long it is waited for first, then twice as long
each time, and at most."""


class Retries:
    """Says after each error of one request whether to send it again, and when; until ``timeout`` seconds are over."""

    def __init__(self, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + timeout
        self._lost = 0

    @property
    def seconds_left(self) -> float:
        """The time until the deadline of the request."""
        return self._end - self._clock()

    def pause(self, error: ServiceError, has_answered: bool) -> float:
        """Return the seconds to wait before the request is sent again.

        A service that is busy is asked again when it says, as often as the deadline allows. One that is lost is waited
        for if it ``has_answered`` before; if it never has, its address is wrong, or it is not started.

        Raises:
            ServiceError: ``error`` itself, if there is nothing to wait for, or too little time.
        """
        if isinstance(error, ServiceBusyError):
            pause = error.retry_after_s
        elif error.code == grpc.StatusCode.UNAVAILABLE and has_answered and self._lost < ATTEMPTS - 1:
            pause = min(FIRST_PAUSE_S * 2**self._lost, LONGEST_PAUSE_S)
            self._lost += 1
        else:
            raise error
        if pause >= self.seconds_left:
            raise error
        return pause


class Furthest:
    """What the caller of a stream knows already, when the same request begins again at another gateway."""

    def __init__(self) -> None:
        self._tokens_done = -1
        self._rows: dict[int, int] = {}
        self._images: set[int] = set()

    def is_new(self, event: Event) -> bool:
        """Return whether the caller does not know an event yet, and note it."""
        match event:
            case GenerationProgress():
                is_new = event.tokens_done >= self._tokens_done
                self._tokens_done = max(self._tokens_done, event.tokens_done)
            case Preview():
                is_new = event.rows > self._rows.get(event.candidate, 0)
                self._rows[event.candidate] = max(event.rows, self._rows.get(event.candidate, 0))
            case GeneratedImage():
                is_new = event.candidate not in self._images
                self._images.add(event.candidate)
            case Summary():
                is_new = True
        return is_new
