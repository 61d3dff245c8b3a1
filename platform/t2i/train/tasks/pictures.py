"""Pictures of what a model does, to look at during training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from models.images import to_float
from t2i.contact_sheet import SheetRow, contact_sheet

MAX_SHOWN = 8
"""The most rows of a picture, and the most images found for a caption."""

TILE = 96
"""Side of an image in a captioned sheet, in pixels."""


def image_grid(images: Tensor, columns: int) -> Tensor:
    """Arrange images [rows * columns, 3, H, W] in [0, 1], row after row, in one picture.

    Each gets a white frame of one pixel: the picture is float32 [3, rows * (H + 2), columns * (W + 2)], on the CPU.
    """
    framed = F.pad(images.float().cpu(), (1, 1, 1, 1), value=1.0)
    in_rows = framed.reshape(-1, columns, *framed.shape[1:])  # [rows, columns, 3, H + 2, W + 2]
    return in_rows.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)


def captioned_sheet(rows: Sequence[SheetRow]) -> Tensor:
    """Draw a caption over a row of images, for each of ``rows``: float32 [3, H, W] in [0, 1]."""
    return to_float(np.array(contact_sheet(rows, TILE))[None])[0]


def evenly_spaced(n: int, count: int = MAX_SHOWN) -> list[int]:
    """Return ``count`` (at most n) row numbers spread evenly over 0 to n - 1."""
    count = min(n, count)
    return [index * n // count for index in range(count)]
