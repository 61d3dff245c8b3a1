"""The overlap control: distances without the real images that look like training images (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from t2i.metrics.blocks import row_blocks


def nearest_cosines(images: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Return each image's cosine with its nearest training image: float32 [n], of unit-norm [n, F] and [m, F]."""
    nearest = np.full(len(images), -np.inf, np.float32)
    for rows in row_blocks(len(images)):
        for others in row_blocks(len(training)):
            np.maximum(nearest[rows], (images[rows] @ training[others].T).max(axis=1), out=nearest[rows])
    return nearest


def distinct_rows(cosines: np.ndarray, threshold: float) -> np.ndarray:
    """Return which images are no near-duplicates of a training image: bool [n]."""
    distinct: np.ndarray = cosines < threshold
    return distinct


def rows_of(ids: Sequence[str], kept: set[str]) -> np.ndarray:
    """Return which of ``ids`` are kept: bool [n]."""
    return np.array([name in kept for name in ids], bool)
