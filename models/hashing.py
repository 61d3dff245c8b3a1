"""The hash function splitmix64: random bits as a pure function of an integer (Steele, Lea and Flood 2014)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

Int64T = TypeVar("Int64T", Tensor, npt.NDArray[np.int64])

GOLDEN = -7046029254386353131
"""0x9E3779B97F4A7C15 as a signed 64-bit integer: hash x + GOLDEN, x + 2 GOLDEN, ... for several numbers from one x."""


def splitmix64(x: Int64T) -> Int64T:
    """Hash int64 numbers of any shape, in torch or numpy, each to an int64 whose bits look random.

    Different numbers have different hashes. Arithmetic wraps modulo 2^64, so that the bits are those of the published
    function on unsigned integers.
    """
    x = (x ^ _shift_right(x, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ _shift_right(x, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return x ^ _shift_right(x, 31)


def _shift_right(x: Int64T, bits: int) -> Int64T:
    """Shift int64 right and fill with zeros; the operator ``>>`` would fill with copies of the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
