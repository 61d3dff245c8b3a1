"""Captions that the shipped models were not trained on."""

from __future__ import annotations

from pathlib import Path

from t2i.data import Caption, SourceConfig, read_captions
from t2i.evaluate.selection import sample_captions

HELD_OUT = Path(__file__).parents[1] / "datasets" / "emoji64" / "val.parquet"


def held_out_captions(count: int, seed: int) -> list[Caption]:
    """Return ``count`` captions of emoji64's validation set, drawn at random with ``seed``."""
    return sample_captions(read_captions(SourceConfig(str(HELD_OUT))), count, seed)
