"""Which positions each query sees: one boolean table [L, L] per kind of layer (paper section 2.2, figure 11).

Table rows are queries, table columns are keys. The prefix (text and start tokens) is causal; every image token sees the
whole prefix; among image tokens the three kinds differ. They are defined on the distance q - k in raster order, so row
and convolutional attention run on across row ends (the paper's "wraps around").
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["row", "column", "conv"]
CONV_KERNEL = 11


def layer_kind(layer: int, layers: int) -> Kind:
    """Return the kind of attention of layer number ``layer``, counted from 0.

    The paper's rule counts from 1: the last layer is convolutional, layer i is column if (i - 2) mod 4 = 0, else row.
    """
    index = layer + 1
    if index == layers:
        return "conv"
    return "column" if (index - 2) % 4 == 0 else "row"


def offsets(kind: Kind, grid: tuple[int, int]) -> Tensor:
    """Return the raster distances q - k at which a query sees an image key: int64 [M], ascending from 0.

    ``grid`` is (h, w). The query at raster position q sees the keys q - d >= 0 for the offsets d.
    """
    height, width = grid
    if kind == "row":
        seen = set(range(width + 1))
    elif kind == "column":
        seen = set(range(0, height * width, width))
    else:
        reach = CONV_KERNEL // 2
        seen = {up * width + aside for up in range(reach + 1) for aside in range(-reach, reach + 1)}
    return torch.tensor(sorted(offset for offset in seen if 0 <= offset < height * width))


def image_mask(kind: Kind, grid: tuple[int, int]) -> Tensor:
    """Return bool [N, N]: whether image token q (table row) sees image token k (table column), itself included."""
    token = torch.arange(grid[0] * grid[1])
    return torch.isin(token[:, None] - token[None, :], offsets(kind, grid))


def stream_mask(kind: Kind, prefix_length: int, grid: tuple[int, int]) -> Tensor:
    """Return bool [L, L]: which inputs see which in a whole stream of P prefix inputs and N - 1 image tokens."""
    length = prefix_length + grid[0] * grid[1] - 1
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    mask[prefix_length:, prefix_length:] = image_mask(kind, grid)[:-1, :-1]
    return mask
