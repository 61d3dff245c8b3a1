"""Captioned images to train on, and others to validate on: what every job that learns from pairs is told."""

from __future__ import annotations

from dataclasses import dataclass

from ray.data import Dataset

from models.settings import setting
from t2i.data.decode import decode_pairs, readable_pairs
from t2i.data.readers import check_pairs, read_pairs
from t2i.data.source import SourceConfig, resolve_format
from t2i.data.windows import ImageShards, Shards


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

    def decode(
        self, image_size: int, directory: str, *, encoded_train: bool = False, window_rows: int | None = None
    ) -> tuple[Dataset | Shards, Dataset]:
        """Both sets as ``pixels`` of one size, or the training set as the encoded ``image``, to be cropped at random.

        A Parquet training set of more than ``window_rows`` images stays encoded, too, to be read a window at a time.
        What is unreadable is named in ``<directory>/unreadable_*/``, of windows in the log.
        """
        validation = decode_pairs(read_pairs(self.val), image_size, f"{directory}/unreadable_val")
        if window_rows and self.train.limit is None and resolve_format(self.train) == "parquet":
            parts = ImageShards.of(self.train)
            if sum(parts.rows) > window_rows:
                return parts, validation
        train, report = read_pairs(self.train), f"{directory}/unreadable_train"
        return readable_pairs(train, report) if encoded_train else decode_pairs(train, image_size, report), validation
