"""The training and validation sets of captioned images: the configuration shared by jobs that learn from pairs."""

from __future__ import annotations

from dataclasses import dataclass

from ray.data import Dataset

from models.settings import setting
from t2i.data.decode import decode_pairs, drop_unreadable
from t2i.data.readers import check_pairs, read_pairs
from t2i.data.source import SourceConfig, resolve_format
from t2i.data.windows import ImageShards, Shards


def _validation() -> SourceConfig:
    return SourceConfig(path="jobs/datasets/emoji64/val.parquet")


@dataclass
class PairSources:
    """Where the captioned images to train on and to validate on are."""

    train: SourceConfig = setting(SourceConfig, "captioned images to train on")
    val: SourceConfig = setting(_validation, "captioned images to validate on")

    def check(self) -> None:
        """Check that both sets can be read, without Ray and before any work.

        Raises:
            DataError: a set is missing, empty, truncated, or not of its format.
        """
        for source in (self.train, self.val):
            check_pairs(source)

    def decode(
        self, image_size: int, directory: str, *, encoded_train: bool = False, window_rows: int | None = None
    ) -> tuple[Dataset | Shards, Dataset]:
        """Return the training and the validation set, whose images are ``pixels`` uint8 [image_size, image_size, 3].

        With ``encoded_train`` the training set keeps its encoded ``image`` instead, to be cropped at random later. A
        Parquet training set of more than ``window_rows`` images is returned as shards, which are read a window at a
        time and encoded, too. Unreadable images are listed in ``<directory>/unreadable_{train,val}``; those of shards
        are logged when they are decoded.
        """
        report = f"{directory}/unreadable_val"
        validation = decode_pairs(read_pairs(self.val, report), image_size, report)
        if window_rows and self.train.limit is None and resolve_format(self.train) == "parquet":
            shards = ImageShards.of(self.train)
            if sum(shards.rows) > window_rows:
                return shards, validation
        report = f"{directory}/unreadable_train"
        train = read_pairs(self.train, report)
        return drop_unreadable(train, report) if encoded_train else decode_pairs(train, image_size, report), validation
