"""Arrays of one shape per row as columns of Arrow tables, which carry them between Ray Data's steps."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from ray.data.extensions import ArrowTensorArray


def tensor_column(array: np.ndarray) -> pa.Array:
    """An array [rows, ...] -> a column with one tensor per row."""
    return ArrowTensorArray.from_numpy(np.ascontiguousarray(array))


def column_array(column: pa.ChunkedArray) -> np.ndarray:
    """What :func:`tensor_column` made -> the array [rows, ...]."""
    return np.concatenate([chunk.to_numpy_ndarray() for chunk in column.chunks])
