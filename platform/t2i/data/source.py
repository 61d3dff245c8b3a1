"""The configuration of a data source: where its captioned images are, and in which format."""

from __future__ import annotations

from dataclasses import dataclass

from models.settings import setting
from t2i.storage import DataError, list_files

SUFFIXES = {
    "parquet": (".parquet",),
    "coco": (".json",),
    "webdataset": (".tar",),
    "text": (".txt",),
    "table": (".csv", ".tsv"),
}


@dataclass
class SourceConfig:
    """A set of captioned images (parquet, coco or webdataset), or of captions alone (these, text or table)."""

    path: str = setting("jobs/datasets/emoji64/train.parquet", "file, folder or glob; local or s3://")
    format: str = setting("auto", "auto (told from the path), parquet, coco, webdataset, text or table")
    images: str | None = setting(None, "coco: the image folder; empty: looked for beside the JSON")
    split: str | None = setting(None, "coco: which split of a Karpathy JSON (train includes restval)")
    limit: int | None = setting(None, "use only the first rows, this many; empty: all")

    def __post_init__(self) -> None:
        if self.format not in ("auto", *SUFFIXES):
            raise ValueError(f"format is {self.format!r}: use auto, {', '.join(SUFFIXES)}.")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}: use 1 or more, or leave it empty.")


def resolve_format(source: SourceConfig) -> str:
    """Return the format of ``source``: as given, or for ``auto`` by the path's suffix or the files in the folder.

    Raises:
        DataError: ``auto`` finds no known suffix.
    """
    if source.format != "auto":
        return source.format
    return _by_suffix(source.path) or _by_content(source.path)


def _by_suffix(path: str) -> str | None:
    return next((name for name, suffixes in SUFFIXES.items() if path.endswith(suffixes)), None)


def _by_content(path: str) -> str:
    """Return the format by the files in a folder; tars go first, as img2dataset writes a Parquet file beside each."""
    _, files = list_files(path, "")
    for name in ("webdataset", "parquet"):
        if any(_by_suffix(file) == name for file in files):
            return name
    raise DataError(f"format cannot be told from path {path!r}: set it to {', '.join(SUFFIXES)}.")
