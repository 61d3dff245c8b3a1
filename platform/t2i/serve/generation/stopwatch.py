"""The seconds that a request spends in each of its stages."""

from __future__ import annotations

import time
from collections import defaultdict


class Stopwatch:
    """Runs in one stage at a time, at first in ``stage``."""

    def __init__(self, stage: str) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._stage, self._since = stage, time.monotonic()

    def begin(self, stage: str) -> None:
        """Go over to a stage, or on with it."""
        now = time.monotonic()
        self._seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now

    def read(self) -> dict[str, float]:
        """Return the seconds in each stage so far."""
        self.begin(self._stage)
        return dict(self._seconds)
