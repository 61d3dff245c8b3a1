"""Images of a batch, which a set that is read in windows keeps encoded until then."""

from __future__ import annotations

import numpy as np

from t2i.data.packed_images import decode_rows
from t2i.data.transforms import centre_square
from t2i.train.tasks.base import Columns


def centre_squares(columns: Columns, rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 [B] -> the rows that were used, and their centre squares uint8 [B, size, size, 3].

    ``pixels`` are squares already; of encoded ``image`` others may be used, see
    :func:`t2i.data.packed_images.decode_rows`.
    """
    if "pixels" in columns:
        return rows, columns["pixels"][rows]
    used, images = decode_rows(columns, rows)
    return used, np.stack([centre_square(image, size) for image in images])
