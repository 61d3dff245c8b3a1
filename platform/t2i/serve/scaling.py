"""How many replicas the prior should have: pure, without imports of ours, as Serve's controller gets it by value."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

IMAGES_PER_SLOT = "images_per_slot"
"""What each replica records: the image tokens that it has still to make, for each of its slots, in images. A replica
whose slots are all busy, with nobody waiting, has half an image left for each on average."""

TARGET = 1.0
"""Images for each slot that a replica may have before others are started."""


def by_outstanding_tokens(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Return for how many replicas there is work, and no state.

    Requests are no measure: one asks for a single image, another for 512. Until replicas have recorded something, there
    stay as many as are wanted now. Serve itself keeps the bounds, waits before it follows, and starts the first replica
    when a request comes and there is none.
    """
    recorded = (context.aggregated_metrics or {}).get(IMAGES_PER_SLOT, {}).values()
    is_asked = context.total_num_requests > 0
    if not recorded:
        return float(context.target_num_replicas if is_asked else 0), {}
    wanted = fmean(recorded) * context.current_num_replicas / TARGET
    return max(wanted, float(is_asked)), {}
