"""What computations share: the cores of a machine, or a GPU."""

from __future__ import annotations

import math
from collections.abc import Generator
from heapq import heappop, heappush
from itertools import count
from typing import Any

from simpy import Environment, Event

NEARLY = 1e-9
"""Seconds by which sums of times may be off."""


class Device:
    """Cores that computations share: where they want more than there are, all of them are slowed alike.

    That makes one clock enough for all: it tells how many seconds a computation that never pauses has had. A device of
    ``cores`` infinity slows nobody.
    """

    def __init__(self, env: Environment, cores: float = math.inf) -> None:
        self._env, self._cores = env, cores
        self._wanted = 0.0
        self._speed = 1.0
        self._clock, self._since = 0.0, env.now
        self._ends: list[tuple[float, int, Event]] = []  # (clock, number, event) of those that wait for an end
        self._numbers = count()
        self._alarm: Event | None = None

    @property
    def clock(self) -> float:
        """Seconds of computing that a computation has had that never paused."""
        return self._clock + (self._env.now - self._since) * self._speed

    def occupy(self, cores: float) -> None:
        """Let a computation begin that keeps so many cores busy."""
        self._want(cores)

    def release(self, cores: float) -> None:
        """Let it end."""
        self._want(-cores)

    def after(self, seconds: float) -> Event:
        """Return the event of a computation's having had so many seconds from now on."""
        if math.isinf(self._cores):
            return self._env.timeout(max(0.0, seconds))
        end = Event(self._env)
        heappush(self._ends, (self.clock + seconds, next(self._numbers), end))
        if self._ends[0][2] is end:
            self._set_alarm()
        return end

    def compute(self, seconds: float, cores: float = 1.0) -> Generator[Event, Any, None]:
        """Keep cores busy for so many seconds of computing."""
        self.occupy(cores)
        yield self.after(seconds)
        self.release(cores)

    def _want(self, more: float) -> None:
        self._wanted += more
        speed = min(1.0, self._cores / self._wanted) if self._wanted > NEARLY else 1.0
        if speed != self._speed:
            self._clock, self._since = self.clock, self._env.now
            self._speed = speed
            self._set_alarm()

    def _set_alarm(self) -> None:
        """Wake at the next end; alarms that were set before are void."""
        if not self._ends:
            return
        self._alarm = self._env.timeout(max(0.0, self._ends[0][0] - self.clock) / self._speed)
        self._alarm.callbacks.append(self._ring)

    def _ring(self, alarm: Event) -> None:
        if alarm is not self._alarm:
            return
        while self._ends and self._ends[0][0] <= self.clock + NEARLY:
            heappop(self._ends)[2].succeed()
        self._set_alarm()
