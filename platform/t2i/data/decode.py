"""Decode the images of a dataset; rows that cannot be used are dropped and reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from ray.data import Dataset

from t2i.data.augment import drawing_view, prior_view
from t2i.data.mirroring import may_be_mirrored
from t2i.data.resume import view_ids
from t2i.data.skipped import clear_folder, record_skipped
from t2i.data.tensors import tensor_column
from t2i.data.transforms import CROPS, centre_square
from t2i.image_files import ImageError, decode_rgb

ROWS_PER_BATCH = 128


def decode_pairs(
    dataset: Dataset,
    image_size: int,
    report_dir: str | None = None,
    *,
    crop: str = "centre",
    need_captions: bool = True,
) -> Dataset:
    """Replace ``image`` by ``pixels``, uint8 [image_size, image_size, 3], made square by one of :data:`CROPS`.

    Rows without a usable image, or without a caption where one is needed, are dropped. As the dataset is consumed,
    their number is logged as a warning, batch by batch, and JSON files in ``report_dir`` list each with the reason; an
    earlier report there is deleted. Errors are caught row by row, because Ray's ``max_errored_blocks`` would drop whole
    blocks.
    """
    make_square = partial(_square, image_size, crop)
    convert = partial(_to_pixels, image_size, make_square, clear_folder(report_dir), need_captions=need_captions)
    return dataset.map_batches(convert, batch_size=ROWS_PER_BATCH, batch_format="pyarrow")


def decode_views(
    dataset: Dataset, image_size: int, kind: str, count: int, seed: int, report_dir: str | None = None
) -> Dataset:
    """Decode like :func:`decode_pairs`, but to ``count`` random views of each image, each a row of its own.

    ``kind`` is one of :data:`VIEWS`. Views depend on ``seed`` and the image's id alone. Their ids are ``<id>#0``,
    ``<id>#1``, ...
    """
    convert = partial(_to_pixels, image_size, partial(_views, image_size, kind, count, seed), clear_folder(report_dir))
    return dataset.map_batches(convert, batch_size=ROWS_PER_BATCH, batch_format="pyarrow")


def drop_unreadable(dataset: Dataset, report_dir: str | None = None) -> Dataset:
    """Drop and report the rows that :func:`decode_pairs` would drop; the others keep their encoded ``image``."""
    keep = partial(_to_readable, clear_folder(report_dir))
    return dataset.map_batches(keep, batch_size=ROWS_PER_BATCH, batch_format="pyarrow")


Row = dict[str, Any]

Views = list[tuple[str, np.ndarray]]
"""The rows made of one image: (id, pixels uint8 [size, size, 3]) each."""


def _to_pixels(
    image_size: int,
    make_views: Callable[[Row, np.ndarray], Views],
    report_dir: str | None,
    table: pa.Table,
    *,
    need_captions: bool = True,
) -> pa.Table:
    """Return rows id, captions, pixels: the views that ``make_views(row, image)`` makes of each usable row's image."""
    found = _usable(table, report_dir, need_captions)
    usable = [(row["captions"], make_views(row, image)) for row, image in found]
    ids = pa.array([view_id for _, views in usable for view_id, _ in views], pa.string())
    captions = pa.array([captions for captions, views in usable for _ in views], pa.list_(pa.string()))
    pixels = np.array([view for _, views in usable for _, view in views], np.uint8)
    tensors = tensor_column(pixels.reshape(-1, image_size, image_size, 3))
    return pa.table({"id": ids, "captions": captions, "pixels": tensors})


def _to_readable(report_dir: str | None, table: pa.Table) -> pa.Table:
    return pa.Table.from_pylist([row for row, _ in _usable(table, report_dir, need_captions=True)], table.schema)


def _usable(table: pa.Table, report_dir: str | None, need_captions: bool) -> list[tuple[Row, np.ndarray]]:
    """Return the rows that can be used, each with its image uint8 [H, W, 3]; report the others."""
    usable, reasons = [], {}
    for row in table.to_pylist():
        try:
            usable.append((row, _decode_row(row, need_captions)))
        except ImageError as error:
            reasons[row["id"]] = str(error)
    if reasons:
        record_skipped(report_dir, reasons, len(table))
    return usable


def _decode_row(row: Row, need_captions: bool) -> np.ndarray:
    if need_captions and not row["captions"]:
        raise ImageError("it has no caption")
    return decode_rgb(row["image"])


def _square(image_size: int, crop: str, row: Row, image: np.ndarray) -> Views:
    return [(row["id"], CROPS[crop](image, image_size))]


def _views(image_size: int, kind: str, count: int, seed: int, row: Row, image: np.ndarray) -> Views:
    random = np.random.default_rng([seed, *row["id"].encode()])
    views = VIEWS[kind](row, image, image_size, random)
    return list(zip(view_ids(row["id"], count), views, strict=False))


def _crops(_: Row, image: np.ndarray, size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        yield prior_view(image, size, random)


def _drawings(row: Row, image: np.ndarray, size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    yield centre_square(image, size)
    mirror = may_be_mirrored(row["captions"])
    while True:
        yield drawing_view(image, size, random, mirror=mirror)


VIEWS: dict[str, Callable[[Row, np.ndarray, int, np.random.Generator], Iterator[np.ndarray]]] = {
    "crops": _crops,
    "drawings": _drawings,
}
"""Kinds of views, each yielding as many as are taken.

``crops`` are those of the paper's listing 2, for photographs; ``drawings`` the image itself, then
:func:`~t2i.data.augment.drawing_view` of it, mirrored where the captions allow.
"""
