"""Who sees whom: one boolean table [L, L] per kind of layer (paper section 2.2, figure 11).

Queries are rows, keys are columns. The prefix (text and start tokens) is causal; every image token sees the whole
prefix; among image tokens the three kinds differ. They are defined on the distance q - k in raster order, so row and
convolution run on across row ends ("wraps around").
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["row", "column", "conv"]
CONV_KERNEL = 11


def layer_kind(layer: int, layers: int) -> Kind:
    """The kind of attention of 0-based ``layer``: the paper's rule is 1-indexed.

    The last layer is convolutional; (i - 2) mod 4 = 0 is column; every other is row.
    """
    index = layer + 1
    if index == layers:
        return "conv"
    return "column" if (index - 2) % 4 == 0 else "row"


def offsets(kind: Kind, grid: tuple[int, int]) -> Tensor:
    """int64 [M], ascending from 0: query q sees the image tokens q - d that exist, for each offset d."""
    height, width = grid
    if kind == "row":
        seen = torch.arange(width + 1)
    elif kind == "column":
        seen = torch.arange(height) * width
    else:
        reach = CONV_KERNEL // 2
        seen = (torch.arange(reach + 1)[:, None] * width + torch.arange(-reach, reach + 1)).flatten().unique()
    return seen[(seen >= 0) & (seen < height * width)]


def image_mask(kind: Kind, grid: tuple[int, int]) -> Tensor:
    """Bool [N, N]: which image token (row) attends to which (column), itself included."""
    token = torch.arange(grid[0] * grid[1])
    return torch.isin(token[:, None] - token[None, :], offsets(kind, grid))


def stream_mask(kind: Kind, prefix_length: int, grid: tuple[int, int]) -> Tensor:
    """Bool [L, L] for the whole stream of prefix and N - 1 image inputs."""
    length = prefix_length + grid[0] * grid[1] - 1
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    mask[prefix_length:, prefix_length:] = image_mask(kind, grid)[:-1, :-1]
    return mask
