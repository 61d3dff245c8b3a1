"""Read captioned images of any format as pairs: rows ``{"id": str, "image": bytes, "captions": list[str]}``."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from fsspec import AbstractFileSystem
from ray.data import Dataset

from t2i.data.coco import find_images, parse_coco
from t2i.data.source import SourceConfig, resolve_format
from t2i.storage import (
    DataError,
    arrow_filesystem,
    as_data_error,
    is_transient,
    list_files,
    read_path,
    with_retries,
)

PAIR_SCHEMA = pa.schema({"id": pa.string(), "image": pa.binary(), "captions": pa.list_(pa.string())})
ID_COLUMNS = ("id", "key")
IMAGE_COLUMNS = ("image", "jpg", "png", "webp")
CAPTION_COLUMNS = ("captions", "caption", "text")
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
TEXT_SUFFIXES = ("txt", "json")
ROWS_PER_BLOCK = 256
TAR_END = bytes(1024)
"""The last bytes of a complete tar: two blocks of zeros."""


def read_pairs(source: SourceConfig) -> Dataset:
    """Return the pairs of ``source`` as a lazy dataset, in the order of the source whatever Ray's scheduling.

    ``image`` is empty if the file is missing or unreadable, and ``captions`` if there is none;
    :func:`t2i.data.decode.decode_pairs` drops and reports such rows.

    Raises:
        DataError: the source is missing, empty, truncated, or not of its format; this is checked before Ray is used.
    """
    dataset = _open(source)()
    dataset.context.execution_options.preserve_order = True
    return dataset.limit(source.limit) if source.limit else dataset


def check_pairs(source: SourceConfig) -> None:
    """Check that :func:`read_pairs` can read ``source``, without Ray.

    Raises:
        DataError: see :func:`read_pairs`.
    """
    _open(source)


def _open(source: SourceConfig) -> Callable[[], Dataset]:
    """Check ``source`` without Ray, and return the function that reads it with Ray."""
    openers = {"parquet": _open_parquet, "coco": _open_coco, "webdataset": _open_webdataset}
    name = resolve_format(source)
    if name not in openers:
        raise DataError(f"format is {name!r}: it has captions but no images, so use {', '.join(openers)}.")
    return openers[name](source)


def _open_parquet(source: SourceConfig) -> Callable[[], Dataset]:
    filesystem, files, columns = find_parquet(source)
    arrow = arrow_filesystem(filesystem)

    def read() -> Dataset:
        dataset = ray.data.read_parquet(
            files, filesystem=arrow, partitioning=None, file_extensions=None
        ).select_columns(columns)
        return dataset.map_batches(partial(to_pairs, columns=columns), batch_format="pyarrow")

    return read


def find_parquet(source: SourceConfig) -> tuple[AbstractFileSystem, list[str], list[str]]:
    """Return the file system and files of a Parquet source, and its [id, image, caption] column names.

    Raises:
        DataError: there is no file, one is truncated or not Parquet, or a column is missing.
    """
    filesystem, files = list_files(source.path, ".parquet")
    names = parquet_columns(filesystem, files)
    ids, images = (next((name for name in known if name in names), None) for known in (ID_COLUMNS, IMAGE_COLUMNS))
    if ids is None or images is None:
        raise DataError(
            f"path is {source.path!r}: it needs columns id, image and captions, and has {', '.join(names)}."
        )
    return filesystem, files, [ids, images, caption_column(source.path, names)]


def parquet_columns(filesystem: AbstractFileSystem, files: list[str]) -> list[str]:
    """Return the column names of the first file; read the footers of all, which finds damaged files early.

    Raises:
        DataError: a file is truncated or not Parquet.
    """
    with ThreadPoolExecutor(16) as pool:
        columns = list(pool.map(partial(_footer_columns, filesystem), files))
    return columns[0]


def _footer_columns(filesystem: AbstractFileSystem, file: str) -> list[str]:
    try:
        return with_retries(lambda: pq.read_schema(file, filesystem=arrow_filesystem(filesystem)).names)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and is_transient(error):
            raise DataError(f"path is {file!r}: it cannot be read now ({error}).") from error
        raise DataError(f"path is {file!r}: it is truncated or not Parquet, so copy it again.") from error


def caption_column(path: str, names: list[str]) -> str:
    """Return the first of ``names`` that is known to hold captions.

    Raises:
        DataError: there is none; ``path`` is for the message.
    """
    found = next((name for name in CAPTION_COLUMNS if name in names), None)
    if found is None:
        raise DataError(f"path is {path!r}: it has no column {', '.join(CAPTION_COLUMNS)}, only {', '.join(names)}.")
    return found


def to_pairs(table: pa.Table, columns: list[str]) -> pa.Table:
    """Return pairs of three ``columns``: id, image (bytes or a struct with ``bytes``), captions (a list or string)."""
    ids, images, captions = (table[column].to_pylist() for column in columns)
    images = [image["bytes"] if isinstance(image, dict) else image for image in images]
    return pairs_table([str(value) for value in ids], images, [non_blank_captions(value) for value in captions])


def non_blank_captions(value: Any) -> list[str]:
    """Return the captions in ``value`` (a string, a list of strings, or None), stripped, without blank ones."""
    captions = value if isinstance(value, list) else [value]
    return [caption.strip() for caption in captions if isinstance(caption, str) and caption.strip()]


def pairs_table(ids: list[str], images: list[bytes | None], captions: list[list[str]]) -> pa.Table:
    """Return a table of pairs; a missing image (None) becomes empty."""
    return pa.table({"id": ids, "image": [image or b"" for image in images], "captions": captions}, schema=PAIR_SCHEMA)


def _open_coco(source: SourceConfig) -> Callable[[], Dataset]:
    images = parse_coco(source)
    filesystem, folder = find_images(source, images)

    def read() -> Dataset:
        files = [f"{folder}/{image.file}" for image in images]
        rows = pa.table(
            {
                "id": [image.id for image in images],
                "file": files,
                "captions": [image.captions for image in images],
            },
            schema=pa.schema({"id": pa.string(), "file": pa.string(), "captions": pa.list_(pa.string())}),
        )
        blocks = [rows.slice(start, ROWS_PER_BLOCK) for start in range(0, len(rows), ROWS_PER_BLOCK)]
        return ray.data.from_arrow(blocks).map_batches(partial(_read_images, filesystem), batch_format="pyarrow")

    return read


def _read_images(filesystem: AbstractFileSystem, table: pa.Table) -> pa.Table:
    """Return pairs made of rows id, file, captions."""
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(partial(_bytes_or_none, filesystem), table["file"].to_pylist()))
    return pairs_table(table["id"].to_pylist(), images, table["captions"].to_pylist())


def _bytes_or_none(filesystem: AbstractFileSystem, file: str) -> bytes | None:
    """Return the content of a file, or None if it is missing or unreadable; raise if the store does not answer."""
    try:
        return read_path(filesystem, file)
    except OSError as error:
        if is_transient(error):
            raise
        return None


def _open_webdataset(source: SourceConfig) -> Callable[[], Dataset]:
    filesystem, files = list_files(source.path, ".tar")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(partial(_check_tar, filesystem), files))

    def read() -> Dataset:
        arrow, suffixes = arrow_filesystem(filesystem), [*IMAGE_SUFFIXES, *TEXT_SUFFIXES]
        samples = ray.data.read_webdataset(files, filesystem=arrow, decoder=None, suffixes=suffixes)
        return samples.map_batches(_from_webdataset, batch_format="pandas")

    return read


def _check_tar(filesystem: AbstractFileSystem, file: str) -> None:
    """Raise DataError if a file does not end like a complete tar."""
    with as_data_error(file):
        end = with_retries(partial(_last_bytes, filesystem, file))
    if end != TAR_END:
        raise DataError(f"path is {file!r}: it is truncated or not a tar, so copy it again.")


def _last_bytes(filesystem: AbstractFileSystem, file: str) -> bytes:
    with arrow_filesystem(filesystem).open_input_file(file) as stream:
        stream.seek(max(0, stream.size() - len(TAR_END)))
        data: bytes = stream.read()
        return data


def _from_webdataset(frame: pd.DataFrame) -> pa.Table:
    """Return pairs made of WebDataset samples (one column of bytes per file suffix)."""
    samples = [
        {key: value for key, value in row.items() if isinstance(value, bytes)} for row in frame.to_dict("records")
    ]
    images = [next((sample[suffix] for suffix in IMAGE_SUFFIXES if suffix in sample), None) for sample in samples]
    return pairs_table(frame["__key__"].tolist(), images, [_sample_captions(sample) for sample in samples])


def _sample_captions(sample: dict[str, bytes]) -> list[str]:
    """Return the captions of a sample: the lines of its .txt, else a field of its .json, else none."""
    if "txt" in sample:
        return non_blank_captions(sample["txt"].decode(errors="replace").splitlines())
    try:
        fields = json.loads(sample.get("json", b"{}"))
        return non_blank_captions(next((fields[name] for name in CAPTION_COLUMNS if name in fields), []))
    except ValueError:
        return []
