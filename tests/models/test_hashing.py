"""splitmix64 in torch and numpy against the published function."""

from __future__ import annotations

import numpy as np
import torch

from models.hashing import splitmix64

NUMBERS = np.array([0, 1, -1, 2**63 - 1, -(2**63), 1234567], np.int64)


def reference(x: int) -> int:
    """The published finaliser on unsigned integers of any size, cut to 64 bits."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def test_numpy_and_torch_mix_as_the_published_function_does() -> None:
    wanted = [reference(int(number) % 2**64) for number in NUMBERS]
    assert (splitmix64(NUMBERS).view(np.uint64) == np.array(wanted, np.uint64)).all()
    assert (splitmix64(torch.from_numpy(NUMBERS)).numpy() == splitmix64(NUMBERS)).all()
