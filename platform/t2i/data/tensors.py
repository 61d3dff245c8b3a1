"""Convert arrays to columns of Arrow tables and back: the steps of a Ray Data pipeline exchange such tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from ray.data.extensions import ArrowTensorArray


def tensor_column(array: np.ndarray) -> pa.Array:
    """Return an array [n, ...] as a column of n tensors."""
    return ArrowTensorArray.from_numpy(np.ascontiguousarray(array))


def column_array(column: pa.ChunkedArray) -> np.ndarray:
    """Return the array [n, ...] of a column made by :func:`tensor_column`."""
    return np.concatenate([chunk.to_numpy_ndarray() for chunk in column.chunks])
