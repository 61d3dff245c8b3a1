"""What a prior has just refused, so that under overload it need not say so to each and every request."""

from __future__ import annotations

import time
from dataclasses import dataclass

from t2i.serve.messages import CaptionRequest, QueueFullError

HOLD_S = 1.0
"""Seconds for which a refusal speaks for requests of the same client that follow. Then the next one asks again: others
may have been cancelled, or a replica added."""


@dataclass(frozen=True)
class _Refused:
    wanted: CaptionRequest
    sampled_at: float  # when it would have had its last token, Unix time
    at: float


class Refusals:
    """The last refusal of each client, as long as it holds."""

    def __init__(self) -> None:
        self._last: dict[str, _Refused] = {}

    def check(self, wanted: CaptionRequest) -> None:
        """Do nothing, unless the client has just been refused no more than this.

        Raises:
            QueueFullError: it has, and this request would be late too.
        """
        last = self._last.get(wanted.client)
        if last and time.time() < last.at + HOLD_S and _is_at_least(wanted, last.wanted):
            late_s = last.sampled_at + wanted.ranking_s - wanted.deadline
            if late_s > 0:
                raise QueueFullError(late_s)

    def note(self, wanted: CaptionRequest, late_s: float) -> None:
        """Note that a request was refused, since it would have been so many seconds late."""
        now = time.time()
        self._last = {client: last for client, last in self._last.items() if now < last.at + HOLD_S}
        self._last[wanted.client] = _Refused(wanted, wanted.deadline + late_s - wanted.ranking_s, now)


def _is_at_least(wanted: CaptionRequest, other: CaptionRequest) -> bool:
    """Return whether a request takes as many steps and slots as another, or more."""
    return (
        wanted.candidates >= other.candidates
        and wanted.sampling.is_guided >= other.sampling.is_guided
        and len(wanted.prefix) <= len(other.prefix)
    )
