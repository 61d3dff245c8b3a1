"""The images of a batch, decoded where the data set holds them encoded."""

from __future__ import annotations

import numpy as np

from t2i.data.packed_images import decode_rows
from t2i.data.transforms import centre_square
from t2i.train.tasks.base import Columns


def centre_squares(columns: Columns, rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre squares of the images in ``rows`` int64 [B], uint8 [B, size, size, 3], after their row numbers.

    The column ``pixels`` holds such squares already. Images of the encoded column ``image`` that cannot be decoded are
    replaced by others, see :func:`t2i.data.packed_images.decode_rows`: the row numbers returned are those used.
    """
    if "pixels" in columns:
        return rows, columns["pixels"][rows]
    used, images = decode_rows(columns, rows)
    return used, np.stack([centre_square(image, size) for image in images])
