"""Encoded images of many rows, in one buffer that all processes of a node share; decoding some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from t2i.data.transforms import ImageError, decode_rgb
from t2i.logs import get_logger
from t2i.storage import DataError


def pack_images(images: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Encoded images -> columns ``image``, uint8, all of them one after the other, and ``image_ends``, int64 [n]."""
    return {
        "image": np.frombuffer(b"".join(images), np.uint8),
        "image_ends": np.cumsum([len(image) for image in images], dtype=np.int64),
    }


def decode_rows(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rows int64 [B] of packed columns -> the rows that were used, and their images uint8 [H, W, 3].

    For a row whose image cannot be decoded, or that has no caption, the next row comes that can be used: which it is
    depends on the data alone, so that a run that resumes sees the same.

    Raises:
        DataError: no row can be used.
    """
    found = [_next_usable(columns, int(row)) for row in rows]
    return np.array([row for row, _ in found], np.int64), [image for _, image in found]


def _next_usable(columns: Mapping[str, np.ndarray], wanted: int) -> tuple[int, np.ndarray]:
    n = len(columns["image_ends"])
    for row in (*range(wanted, n), *range(wanted)):
        try:
            return row, _decode(columns, row)
        except ImageError as error:
            _warn(str(columns["id"][row]), str(error))
    raise DataError("none of the images that are in memory can be used: see the warnings above.")


def _decode(columns: Mapping[str, np.ndarray], row: int) -> np.ndarray:
    if not columns["captions"][row]:
        raise ImageError("it has no caption")
    start = columns["image_ends"][row - 1] if row else 0
    return decode_rgb(columns["image"][start : columns["image_ends"][row]].tobytes())


@cache
def _warn(id: str, reason: str) -> None:
    """Once for each image and process."""
    get_logger("data").warning("image %s skipped: %s.", id, reason)
