"""What the training jobs have in common: where their data is, and what they print."""

from __future__ import annotations

from dataclasses import dataclass

from models.settings import setting
from t2i.data import SourceConfig
from t2i.train.fit import FitResult


def _validation() -> SourceConfig:
    return SourceConfig(path="jobs/datasets/emoji64/val.parquet")


@dataclass
class PairSources:
    """Captioned images to learn from, and others to measure on."""

    train: SourceConfig = setting(SourceConfig, "captioned images to train on")
    val: SourceConfig = setting(_validation, "captioned images to validate on")


def print_result(result: FitResult) -> None:
    """The final metrics, one a line, and where the model is."""
    for name, value in result.metrics.items():
        print(f"{name:<28} {value:.6g}" if isinstance(value, float) else f"{name:<28} {value}")
    print(result.model, flush=True)
