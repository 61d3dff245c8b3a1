"""What the training jobs have in common: where their data is, and what they print."""

from __future__ import annotations

from dataclasses import dataclass

from ray.data import Dataset

from models.settings import setting
from t2i.data import SourceConfig, check_pairs, decode_pairs, read_pairs, readable_pairs
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

    def decode(self, image_size: int, directory: str, *, encoded_train: bool = False) -> tuple[Dataset, Dataset]:
        """Both sets as ``pixels`` of one size, or the training set as the encoded ``image``, to be cropped at random.

        What is unreadable is named in ``<directory>/unreadable_*/``.
        """
        reports = [f"{directory}/unreadable_{name}" for name in ("train", "val")]
        train = read_pairs(self.train)
        return (
            readable_pairs(train, reports[0]) if encoded_train else decode_pairs(train, image_size, reports[0]),
            decode_pairs(read_pairs(self.val), image_size, reports[1]),
        )


def print_result(result: FitResult) -> None:
    """The final metrics, one a line, and where the model is."""
    for name, value in result.metrics.items():
        print(f"{name:<28} {value:.6g}" if isinstance(value, float) else f"{name:<28} {value}")
    print(result.model, flush=True)
