"""splitmix64: random bits as a pure function of a number (Steele, Lea and Flood 2014)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

Int64T = TypeVar("Int64T", Tensor, npt.NDArray[np.int64])

GOLDEN = -7046029254386353131
"""0x9E3779B97F4A7C15 as a signed 64-bit integer: the increment between the numbers of one stream."""


def splitmix64(x: Int64T) -> Int64T:
    """Mix int64 numbers of any shape, in torch or numpy: a bijection that flips about half of the bits.

    Arithmetic wraps modulo 2^64, so that signed integers give the bits that unsigned ones would.
    """
    x = (x ^ _shift_right(x, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ _shift_right(x, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return x ^ _shift_right(x, 31)


def _shift_right(x: Int64T, bits: int) -> Int64T:
    """Logical (zero-filling) right shift of int64, whose own shift repeats the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
