"""Values that change over training, each a pure function of the 0-based step."""

from __future__ import annotations

import math


def cosine_anneal(step: int, start: float, end: float, steps: int) -> float:
    """Return ``start`` at step 0, ``end`` from step ``steps`` on, and half a cosine between them."""
    if step >= steps:
        return end
    return end + (start - end) * (1 + math.cos(math.pi * step / steps)) / 2


def linear_warmup(step: int, steps: int) -> float:
    """Return a factor that climbs from 1 / steps at step 0 to 1 at step ``steps - 1``, and stays there."""
    return min(1.0, (step + 1) / max(1, steps))
