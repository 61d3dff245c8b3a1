"""The configuration of a data source: where its captioned images are, and in which format."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from fsspec import AbstractFileSystem

from models.settings import setting
from t2i.storage import DataError, as_data_error, file_info, list_files

SUFFIXES = {
    "parquet": (".parquet",),
    "coco": (".json",),
    "webdataset": (".tar",),
    "text": (".txt",),
    "table": (".csv", ".tsv"),
    "jsonl": (".jsonl", ".ndjson"),
    "images": (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
}
"""Format -> the file suffixes by which it is recognised, in small letters."""

CAPTIONS_ALONE = ("text", "table", "jsonl")
"""Formats that never hold images."""


@dataclass
class SourceConfig:
    """Captioned images (parquet, coco, webdataset), captions alone (text, table, jsonl, too), or images alone."""

    path: str = setting("jobs/datasets/emoji64/train.parquet", "file, folder or glob; local or s3://", path="read")
    format: str = setting("auto", f"{', '.join(SUFFIXES)}; auto: recognised by the files' suffixes")
    images: str | None = setting(
        None, "for coco only: the image folder; empty: searched for near the JSON", path="read"
    )
    split: str | None = setting(None, "for coco only: the split of a Karpathy JSON to use (train includes restval)")
    limit: int | None = setting(None, "number of rows to use, from the first on; empty: all", at_least=1)

    def __post_init__(self) -> None:
        if self.format not in ("auto", *SUFFIXES):
            raise ValueError(f"format is {self.format!r}: use auto, {', '.join(SUFFIXES)}.")


def resolve_format(source: SourceConfig) -> str:
    """Return ``source.format``, or for ``auto`` the format that the path's suffix or the folder's files suggest.

    Raises:
        DataError: the format is ``auto``, and there is no file with a known suffix.
    """
    if source.format != "auto":
        return source.format
    return _by_suffix(source.path) or _by_content(source.path)


def _by_suffix(path: str) -> str | None:
    """Return the format whose suffix ``path`` has, None if there is none."""
    return next((name for name, suffixes in SUFFIXES.items() if path.lower().endswith(suffixes)), None)


def _by_content(path: str) -> str:
    """Return a folder's format by its files: WebDataset if any is a tar, as img2dataset adds a Parquet file to each.

    A Parquet file beside images holds them, or what is known of them; so images count last.
    """
    _, files = list_files(path, "")
    for name in ("webdataset", "parquet", "images"):
        if any(_by_suffix(file) == name for file in files):
            return name
    raise DataError(f"format cannot be told from path {path!r}: set it to {', '.join(SUFFIXES)}.")


def file_state(filesystem: AbstractFileSystem, files: list[str]) -> str:
    """Return a hash of the paths, sizes and times of files, which shows whether they have changed."""
    with as_data_error(files[0]), ThreadPoolExecutor(16) as pool:
        found = pool.map(partial(file_info, filesystem), files)
        state = [(file, info.size, info.modified) for file, info in zip(files, found, strict=True)]
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]
