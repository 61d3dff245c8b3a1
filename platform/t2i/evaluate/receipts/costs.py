"""What an evaluation took, summed over the done-records of its shards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

STAGES = ("generate", "score", "controls", "extract")
"""Stages whose seconds are recorded."""


def stage_seconds(records: Sequence[Mapping[str, Any]], candidates: int) -> dict[str, dict[str, float]]:
    """Return stage -> {seconds, images} of the feature shards' done-records, one actor's seconds after the other.

    Of ``generate`` and ``score`` the images are all candidates, of ``controls`` the real ones, of ``extract`` those
    that were measured. Shards that were not drawn in the run that measured them count for ``extract`` alone.
    """
    sums: dict[str, dict[str, float]] = defaultdict(lambda: {"seconds": 0.0, "images": 0})
    for record in records:
        images = record["images"]
        drawn, real = images.get("best", 0) * candidates, images.get("real", 0)
        counts = {"generate": drawn, "score": drawn, "controls": real, "extract": record.get("measured", 0)}
        for name, seconds in record.get("seconds", {}).items():
            stage = name.removesuffix("_seconds")
            if counts[stage]:
                sums[stage]["seconds"] += seconds
                sums[stage]["images"] += counts[stage]
    return {stage: sums[stage] for stage in STAGES if stage in sums}


def storage_bytes(
    drawn: Sequence[Mapping[str, Any]], features: Sequence[Mapping[str, Any]], candidates: int
) -> dict[str, dict[str, int]]:
    """Return what is stored -> {bytes, images}, from the done-records of the ``drawn`` and of the feature shards.

    Tokens and scores are those of all candidates; of pixels, ``images`` counts captions.
    """
    captions = sum(len(record["ids"]) for record in drawn)
    pixels = sum(record.get("pixel_bytes", 0) for record in drawn)
    total = sum(record.get("bytes", 0) for record in drawn)
    measured = sum(record.get("measured", 0) for record in features)
    return {
        "tokens": {"bytes": total - pixels, "images": captions * candidates},
        "pixels": {"bytes": pixels, "images": captions},
        "features": {"bytes": sum(record.get("bytes", 0) for record in features), "images": measured},
    }
