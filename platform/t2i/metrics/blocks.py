"""Rows of large arrays in blocks of the same sizes and in the same order, so that sums round alike each time."""

from __future__ import annotations

BLOCK = 1024
"""Rows of features, or of a matrix of similarities, that are worked on at once."""


def row_blocks(n: int, size: int = BLOCK) -> list[slice]:
    """Return slices of ``size`` rows that cover 0..n-1 in order; the last one may be smaller."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
