"""When requests come: at random moments, at a rate that may change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from models.settings import setting

DAY = "day"
SHAPES = ("steady", DAY, "burst")


@dataclass
class Load:
    """How many requests come, when, and what each asks for."""

    rate: float = setting(1.0, "requests a second, on average", above=0)
    shape: str = setting("steady", "steady; day: from little to much and back, once; burst: more for a while")
    seconds: float = setting(60.0, "seconds in which requests come", above=0)
    uncounted: float = setting(10.0, "seconds at the beginning whose requests are not counted", at_least=0)
    swing: float = setting(0.8, "of a day: how far its rate goes to both sides of the average", at_least=0, at_most=1)
    burst: float = setting(3.0, "of a burst: how many times as many requests come", at_least=1)
    burst_begin: float = setting(0.3, "of a burst: after which part of the seconds it begins", at_least=0, below=1)
    burst_part: float = setting(0.2, "of a burst: which part of the seconds it lasts", above=0, at_most=1)
    candidates: int = setting(8, "images sampled for each request", at_least=1)
    keep: int = setting(2, "best images of it that are sent", at_least=1)
    deadline: float = setting(60.0, "seconds that a request may take", above=0)
    clients: int = setting(1, "clients that requests come from, each equally often", at_least=1)
    captions: int | None = setting(None, "different captions; empty: no two requests have the same", at_least=1)

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"load.shape is {self.shape!r}: use {', '.join(SHAPES[:-1])} or {SHAPES[-1]}.")
        if self.uncounted >= self.seconds:
            raise ValueError(f"load.uncounted is {self.uncounted:g}: use less than load.seconds, {self.seconds:g}.")

    def rate_at(self, seconds: float) -> float:
        """Return the requests a second at a moment."""
        part = seconds / self.seconds
        if self.shape == DAY:
            return self.rate * (1 - self.swing * math.cos(2 * math.pi * part))
        is_burst = self.shape == "burst" and self.burst_begin <= part < self.burst_begin + self.burst_part
        return self.rate * (self.burst if is_burst else 1.0)

    @property
    def highest_rate(self) -> float:
        """The most requests a second."""
        return self.rate * {DAY: 1 + self.swing, "burst": self.burst}.get(self.shape, 1.0)

    def moments(self, random: Random) -> Iterator[float]:
        """Yield the seconds at which requests come: a Poisson process whose rate may change."""
        return thinned(self.rate_at, self.highest_rate, self.seconds, random)


def thinned(rate_at: Callable[[float], float], highest: float, seconds: float, random: Random) -> Iterator[float]:
    """Yield the moments of a Poisson process of a changing rate (Lewis and Shedler 1979).

    Of moments at the highest rate each stays with the share that the rate has of it then.
    """
    now = random.expovariate(highest)
    while now < seconds:
        if random.random() * highest < rate_at(now):
            yield now
        now += random.expovariate(highest)
