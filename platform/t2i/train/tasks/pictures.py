"""Pictures for the eye."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SHOWN = 8


def grid(images: Tensor, columns: int) -> Tensor:
    """Images float [rows * columns, 3, H, W] in [0, 1], row after row -> one picture [3, H', W']."""
    framed = F.pad(images.float().cpu(), (1, 1, 1, 1), value=1.0)
    return framed.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)


def evenly(n: int, shown: int = SHOWN) -> list[int]:
    """At most ``shown`` row numbers spread over 0 .. n - 1."""
    count = min(n, shown)
    return [index * n // count for index in range(count)]
