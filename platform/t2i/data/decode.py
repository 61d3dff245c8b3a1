"""Image bytes and captions -> pixels and captions; what cannot be used is counted and named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from ray.data import Dataset

from t2i.data.augment import prior_view
from t2i.data.resume import view_ids
from t2i.data.tensors import tensor_column
from t2i.data.transforms import ImageError, centre_square, decode_rgb
from t2i.logs import get_logger
from t2i.storage import absolute, as_data_error, delete_folder, filesystem_for, write_file

ROWS_PER_BATCH = 128


def decode_pairs(dataset: Dataset, image_size: int, report_dir: str | None = None) -> Dataset:
    """Turn ``image`` into ``pixels``, uint8 [image_size, image_size, 3]: the centre square.

    Rows whose image cannot be used or that have no caption are dropped. While the dataset is being consumed,
    each is named with its reason in a JSON file of ``report_dir``, and every batch's count is logged as a warning.
    Errors are caught per row because Ray's ``max_errored_blocks`` would drop the whole block.
    """
    convert = partial(_to_pixels, image_size, partial(_centre, image_size), empty_folder(report_dir))
    return dataset.map_batches(convert, batch_size=ROWS_PER_BATCH, batch_format="pyarrow")


def view_pairs(dataset: Dataset, image_size: int, views: int, seed: int, report_dir: str | None = None) -> Dataset:
    """:func:`decode_pairs` with ``views`` random crops (the paper's listing 2) of each image as rows of their own.

    Their ids are the image's with #0, #1, ... behind; a crop depends on seed and id alone.
    """
    convert = partial(_to_pixels, image_size, partial(_views, image_size, views, seed), empty_folder(report_dir))
    return dataset.map_batches(convert, batch_size=ROWS_PER_BATCH, batch_format="pyarrow")


def readable_pairs(dataset: Dataset, report_dir: str | None = None) -> Dataset:
    """The rows that :func:`decode_pairs` would keep, with their ``image`` still encoded."""
    keep = partial(_to_readable, empty_folder(report_dir))
    return dataset.map_batches(keep, batch_size=ROWS_PER_BATCH, batch_format="pyarrow")


def empty_folder(folder: str | None) -> str | None:
    """The absolute path of a folder that is not there (any more)."""
    if folder is None:
        return None
    filesystem, path = filesystem_for(folder)
    with as_data_error(folder):
        delete_folder(filesystem, path)
    return absolute(folder)


def report_skipped(folder: str | None, reasons: dict[str, str], rows: int) -> None:
    """Log how many of a batch's ``rows`` were skipped; name each (id -> reason) in a file of ``folder``, if given.

    Every batch has a file of its own, under a name made of the ids, so that a task that is done again writes it again.
    """
    id, reason = next(iter(reasons.items()))
    get_logger("data").warning("%d of %d images skipped, such as %s: %s.", len(reasons), rows, id, reason)
    if folder is not None:
        name = hashlib.sha256("\n".join(reasons).encode()).hexdigest()[:16]
        skipped = [{"id": id, "reason": reason} for id, reason in reasons.items()]
        content = json.dumps({"count": len(skipped), "skipped": skipped}, indent=2)
        write_file(*filesystem_for(f"{folder}/{name}.json"), content.encode())


Pixels = list[tuple[str, np.ndarray]]
"""What becomes of one image: ids and uint8 [size, size, 3]."""


def _to_pixels(
    image_size: int, make: Callable[[str, np.ndarray], Pixels], report_dir: str | None, table: pa.Table
) -> pa.Table:
    made = [(row["captions"], make(row["id"], image)) for row, image in _usable(table, report_dir)]
    ids = pa.array([id for _, pixels in made for id, _ in pixels], pa.string())
    captions = pa.array([captions for captions, pixels in made for _ in pixels], pa.list_(pa.string()))
    pixels = np.array([array for _, pixels in made for _, array in pixels], np.uint8)
    tensors = tensor_column(pixels.reshape(-1, image_size, image_size, 3))
    return pa.table({"id": ids, "captions": captions, "pixels": tensors})


def _to_readable(report_dir: str | None, table: pa.Table) -> pa.Table:
    return pa.Table.from_pylist([row for row, _ in _usable(table, report_dir)], table.schema)


def _usable(table: pa.Table, report_dir: str | None) -> list[tuple[dict[str, Any], np.ndarray]]:
    """The rows that have a caption and an image, with that image uint8 [H, W, 3]; the others are reported."""
    usable, reasons = [], {}
    for row in table.to_pylist():
        try:
            usable.append((row, _decode_row(row)))
        except ImageError as error:
            reasons[row["id"]] = str(error)
    if reasons:
        report_skipped(report_dir, reasons, len(table))
    return usable


def _decode_row(row: dict[str, Any]) -> np.ndarray:
    if not row["captions"]:
        raise ImageError("it has no caption")
    return decode_rgb(row["image"])


def _centre(image_size: int, id: str, image: np.ndarray) -> Pixels:
    return [(id, centre_square(image, image_size))]


def _views(image_size: int, views: int, seed: int, id: str, image: np.ndarray) -> Pixels:
    random = np.random.default_rng([seed, *id.encode()])
    return [(name, prior_view(image, image_size, random)) for name in view_ids(id, views)]
