"""Pictures for the eye: grids of images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import make_grid

SHOWN = 8


def grid(rows: list[Tensor]) -> Tensor:
    """Rows of images, each float [n, 3, H, W] in [0, 1] -> one picture [3, H', W'], a white line between cells."""
    images = torch.cat(rows).float().cpu()
    return make_grid(images, nrow=len(rows[0]), padding=1, pad_value=1.0)


def evenly(n: int, shown: int = SHOWN) -> list[int]:
    """At most ``shown`` row numbers spread over 0 .. n - 1."""
    count = min(n, shown)
    return [index * n // count for index in range(count)]


def area_resize(images: Tensor, side: int) -> Tensor:
    """[..., 3, S, S] -> [..., 3, side, side] by averaging areas, as the paper resizes."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="area")
