"""Pictures for the eye."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from models.images import to_float
from t2i.contact_sheet import SheetRow, contact_sheet

SHOWN = 8
TILE = 96
"""Pixels of an image's side under its caption."""


def grid(images: Tensor, columns: int) -> Tensor:
    """Images float [rows * columns, 3, H, W] in [0, 1], row after row -> one picture [3, H', W']."""
    framed = F.pad(images.float().cpu(), (1, 1, 1, 1), value=1.0)
    return framed.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)


def captioned(rows: Sequence[SheetRow]) -> Tensor:
    """A row of images for each caption -> one picture [3, H', W']."""
    return to_float(np.array(contact_sheet(rows, TILE))[None])[0]


def evenly(n: int, shown: int = SHOWN) -> list[int]:
    """At most ``shown`` row numbers spread over 0 .. n - 1."""
    count = min(n, shown)
    return [index * n // count for index in range(count)]
