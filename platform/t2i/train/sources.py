"""What the training jobs have in common: where their data is, and what they print."""

from __future__ import annotations

from dataclasses import dataclass

from ray.data import Dataset

from models.settings import setting
from t2i.data import SourceConfig, check_pairs, decode_pairs, read_pairs
from t2i.train.fit import FitResult


def _validation() -> SourceConfig:
    return SourceConfig(path="jobs/datasets/emoji64/val.parquet")


@dataclass
class PairSources:
    """Captioned images to learn from, and others to measure on."""

    train: SourceConfig = setting(SourceConfig, "captioned images to train on")
    val: SourceConfig = setting(_validation, "captioned images to validate on")

    def check(self) -> None:
        """Refuse what cannot be read, before any work.

        Raises:
            DataError: one sentence that names the field.
        """
        for source in (self.train, self.val):
            check_pairs(source)

    def decode(self, train_size: int, val_size: int, directory: str) -> tuple[Dataset, Dataset]:
        """Both sets as pixels of the given sides; what is unreadable is named in ``<directory>/unreadable_*.json``."""
        train = decode_pairs(read_pairs(self.train), train_size, f"{directory}/unreadable_train.json")
        val = decode_pairs(read_pairs(self.val), val_size, f"{directory}/unreadable_val.json")
        return train, val


def print_result(result: FitResult) -> None:
    """The final metrics, one a line, and where the model is."""
    for name, value in result.metrics.items():
        print(f"{name:<28} {value:.6g}" if isinstance(value, float) else f"{name:<28} {value}")
    print(result.model, flush=True)
