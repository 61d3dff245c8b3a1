"""Pack encoded images into one array, which Ray lets all processes of a node share, and decode rows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from t2i.image_files import ImageError, decode_rgb
from t2i.logs import get_logger
from t2i.storage import DataError


def pack_images(images: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Return n encoded images as two columns: ``image``, uint8 [bytes], and ``image_ends``, int64 [n].

    ``image`` is their concatenation; image i takes the bytes from ``image_ends[i - 1]`` (0 for i = 0) to
    ``image_ends[i]``.
    """
    return {
        "image": np.frombuffer(b"".join(images), np.uint8),
        "image_ends": np.cumsum([len(image) for image in images], dtype=np.int64),
    }


def decode_rows(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Decode the images of ``rows``, int64 [B]; return the rows that were used, int64 [B], and images uint8 [H, W, 3].

    A row without a caption or a usable image is replaced by the next usable row.

    Raises:
        DataError: no row of ``columns`` is usable.
    """
    # Training images are decoded when they are needed, so which ones are damaged is not known before. A batch must
    # keep its size all the same, and a resumed run must see the batches that an uninterrupted one sees. So the
    # replacement depends on the data alone: no random draw, no counter. Going round in row order,
    #   rows asked for  0  1  2  3  4
    #   usable          y  -  y  -  -
    #   rows used       0  2  2  0  0
    # a usable row is seen more often by the number of damaged ones before it, which is fair if they are few.
    found = [_next_usable(columns, int(row)) for row in rows]
    return np.array([row for row, _ in found], np.int64), [image for _, image in found]


def _next_usable(columns: Mapping[str, np.ndarray], wanted: int) -> tuple[int, np.ndarray]:
    """Return the first usable row from ``wanted`` on (after the last comes the first), and its image."""
    n = len(columns["image_ends"])
    for row in (*range(wanted, n), *range(wanted)):
        try:
            return row, _decode(columns, row)
        except ImageError as error:
            _warn(str(columns["id"][row]), str(error))
    raise DataError("none of the images in memory can be used: see the warnings above.")


def _decode(columns: Mapping[str, np.ndarray], row: int) -> np.ndarray:
    """Return the image of a row, uint8 [H, W, 3]; ImageError says why it cannot be used."""
    if not columns["captions"][row]:
        raise ImageError("it has no caption")
    start = columns["image_ends"][row - 1] if row else 0
    return decode_rgb(columns["image"][start : columns["image_ends"][row]].tobytes())


@cache
def _warn(image_id: str, reason: str) -> None:
    """Log that an image is skipped, once per image and process."""
    get_logger("data").warning("image %s skipped: %s.", image_id, reason)
