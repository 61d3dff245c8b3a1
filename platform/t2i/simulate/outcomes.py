"""What became of requests: counted as clients see it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np


class ReplicaLostError(Exception):
    """The replica that was called is lost, with the call."""


class Outcome(Enum):
    """How a request ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    EXPIRED = "expired"
    FAILED = "failed"


@dataclass(frozen=True)
class Ended:
    """A request that came at ``arrived``, and what became of it ``seconds`` later."""

    arrived: float
    seconds: float
    outcome: Outcome


@dataclass(frozen=True)
class Seen:
    """Requests, and what clients saw of them."""

    requests: Sequence[Ended]

    def arrived(self, begin: float, end: float) -> Seen:
        """Return those that came between two moments."""
        return Seen([each for each in self.requests if begin <= each.arrived < end])

    def answers_per_second(self, begin: float, end: float) -> float:
        """Return how many answers a second there were between two moments, whenever the requests had come."""
        ends = [each.arrived + each.seconds for each in self.requests if each.outcome is Outcome.ANSWERED]
        return sum(begin <= moment < end for moment in ends) / (end - begin)

    def count(self, outcome: Outcome) -> int:
        """Return how many requests ended so."""
        return sum(each.outcome is outcome for each in self.requests)

    def share(self, outcome: Outcome) -> float:
        """Return which part of the requests ended so; NaN if there are none."""
        return self.count(outcome) / len(self.requests) if self.requests else math.nan

    def seconds_of(self, percent: float) -> float:
        """Return a percentile of the seconds to an answer; NaN if there is none."""
        seconds = [each.seconds for each in self.requests if each.outcome is Outcome.ANSWERED]
        return float(np.percentile(seconds, percent)) if seconds else math.nan
