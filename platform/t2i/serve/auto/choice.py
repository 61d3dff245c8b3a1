"""Which of the measured settings a prior computes with: a pure function of their times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.dtypes import PRIOR_DTYPES

LATENCY_FACTOR = 4.0
"""How many times as long as the fastest measured step the chosen one may take: as steps have a fixed shape, an image
that is alone takes at most so much longer, for what many get done sooner."""

NEARLY = 0.9
"""Share of the best throughput that is as good: by less two measurements of the same settings differ."""


@dataclass(frozen=True)
class EngineSettings:
    """What a prior computes in, how many candidates it samples at once, and with how many threads."""

    dtype: str
    slots: int
    threads: int


@dataclass(frozen=True)
class Timing:
    """The ``seconds`` that a step takes, which gives every slot an image token."""

    settings: EngineSettings
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Image tokens that full slots make in a second."""
        return self.settings.slots / self.seconds


def choose(timings: Sequence[Timing]) -> EngineSettings:
    """Return the settings of about the highest throughput among those whose step is not too long.

    Of several that are about equally good, those with the widest dtype are taken, and of these the shortest step.
    """
    longest = LATENCY_FACTOR * min(timing.seconds for timing in timings)
    quick = [timing for timing in timings if timing.seconds <= longest]
    enough = NEARLY * max(timing.tokens_per_second for timing in quick)
    good = [timing for timing in quick if timing.tokens_per_second >= enough]
    return min(good, key=lambda timing: (PRIOR_DTYPES.index(timing.settings.dtype), timing.seconds)).settings


def table(timings: Sequence[Timing], chosen: EngineSettings) -> str:
    """Return the timings as lines of text, the chosen one marked."""
    lines = [f"{'dtype':<10}{'slots':>6}{'threads':>9}{'ms a step':>11}{'tokens/s':>10}"]
    for timing in timings:
        each = timing.settings
        numbers = f"{each.slots:>6}{each.threads:>9}{1000 * timing.seconds:>11.1f}{timing.tokens_per_second:>10.0f}"
        lines.append(f"{each.dtype:<10}{numbers}{'  <- chosen' if each == chosen else ''}")
    return "\n".join(lines)
