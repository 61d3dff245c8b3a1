"""The seconds that a request spends in each of its stages, which are spans of its trace as well."""

from __future__ import annotations

import time
from collections import defaultdict

from t2i.serve.monitoring.tracing import end_span, start_span


class Stopwatch:
    """Runs in one stage at a time, at first in ``stage``, until it is stopped."""

    def __init__(self, stage: str) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._stage, self._since = stage, time.monotonic()
        self._span = start_span(stage)

    def begin(self, stage: str) -> None:
        """Go over to a stage, or on with it."""
        if stage != self._stage:
            end_span(self._span)
            self._span = start_span(stage)
        now = time.monotonic()
        self._seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now

    def read(self) -> dict[str, float]:
        """Return the seconds in each stage so far."""
        self.begin(self._stage)
        return dict(self._seconds)

    def stop(self) -> None:
        """End the last stage."""
        end_span(self._span)
