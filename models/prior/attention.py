"""Attention over a whole stream under one of the three masks, by who computes it.

All three are the same function of q, k, v [B, A, L, E]; the dense one is the reference of the others.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from models.prior.masks import Kind, image_mask, stream_mask

SPARSE_MIN_LENGTH = 512
"""Stream length from which sparse attention is the faster one; the tiny preset stays dense."""

LOCAL_MAX_SHARE = 1 / 8
"""Share of a stream up to which reading the keys of whole lines beats torch's fused dense attention (measured by
jobs/benchmarks/bench_attention.py: 1.7 and 1.9 times for row and column, 0.9 for conv at 32 x 32 tokens)."""


class DenseAttention(nn.Module):
    """Every query beside every key, under the whole table."""

    mask: Tensor

    def __init__(self, kind: Kind, prefix_length: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("mask", stream_mask(kind, prefix_length, grid), persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length = q.shape[-2]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask[:length, :length])


class LocalAttention(nn.Module):
    """The queries of one line of the grid (a row; for ``column`` a column) beside the lines that they can see.

    Those are the row itself and the one before it, the column itself, or the row and the six before it. One softmax
    goes over the whole prefix and these keys; at 32 x 32 tokens that is 322, 290 or 482 keys a query instead of 1281.
    """

    mask: Tensor

    def __init__(self, kind: Kind, prefix_length: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.prefix_length, self.grid, self.by_column = prefix_length, grid, kind == "column"
        visible = image_mask(kind, grid)
        tokens = self._lines(torch.arange(len(visible)).view(1, 1, -1, 1))
        line = torch.empty(len(visible), dtype=torch.long)
        line[tokens.flatten()] = torch.arange(tokens.shape[2]).repeat_interleave(tokens.shape[3])
        q, k = visible.nonzero().unbind(1)
        self.reach = int((line[q] - line[k]).max())
        tokens = tokens[0, 0, :, :, 0]  # [G, W]
        keys = torch.cat([tokens.new_full((self.reach, tokens.shape[1]), -1), tokens])
        keys = keys.unfold(0, self.reach + 1, 1).transpose(1, 2).flatten(1)  # [G, M], -1 above the first line
        mask = visible[tokens[:, :, None], keys[:, None].clamp(min=0)] & (keys[:, None] >= 0)
        self.register_buffer("mask", mask, persistent=False)  # [G, W, M]

    @property
    def is_faster_than_dense(self) -> bool:
        """Whether it is faster than the dense one on a CPU."""
        return self.mask.shape[-1] <= LOCAL_MAX_SHARE * (self.prefix_length + self.grid[0] * self.grid[1])

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        end = self.prefix_length
        prefix_k, prefix_v = k[:, :, :end], v[:, :, :end]
        prefix = F.scaled_dot_product_attention(q[:, :, :end], prefix_k, prefix_v, is_causal=True)
        missing = self.grid[0] * self.grid[1] + end - q.shape[2]  # the last image token is never an input
        q, k, v = (self._lines(F.pad(x[:, :, end:], (0, 0, 0, missing))) for x in (q, k, v))  # [B, A, G, W, E]
        k, v = self._seen(k), self._seen(v)  # [B, A, G, M, E]
        q = q * q.shape[-1] ** -0.5
        to_prefix = (q.flatten(2, 3) @ prefix_k.mT).unflatten(2, q.shape[2:4])
        to_image = (q @ k.mT).masked_fill(~self.mask, -torch.inf)
        weights = torch.cat([to_prefix, to_image], dim=-1).softmax(dim=-1).to(v.dtype)
        of_prefix = weights[..., :end].flatten(2, 3) @ prefix_v
        image = of_prefix.unflatten(2, q.shape[2:4]) + weights[..., end:] @ v
        image = (image.transpose(2, 3) if self.by_column else image).flatten(2, 3)
        return torch.cat([prefix, image[:, :, : image.shape[2] - missing]], dim=2)

    def _lines(self, x: Tensor) -> Tensor:
        """[B, A, N, E] -> [B, A, G, W, E]: G lines of W tokens."""
        x = x.unflatten(2, self.grid)
        return x.transpose(2, 3) if self.by_column else x

    def _seen(self, x: Tensor) -> Tensor:
        """Lines [B, A, G, W, E] -> each line after the ``reach`` before it, [B, A, G, (reach + 1) W, E]."""
        lines = x.shape[2]
        x = F.pad(x, (0, 0, 0, 0, self.reach, 0))
        return torch.cat([x[:, :, first : first + lines] for first in range(self.reach + 1)], dim=3)


class FlexAttention(nn.Module):
    """torch's FlexAttention: blocks of 128 x 128 that the mask leaves empty are never computed; for a GPU.

    A column's tokens lie a row apart, so ``column`` reads the image column after column: then its blocks are few too.
    """

    order: Tensor
    inverse: Tensor

    def __init__(self, kind: Kind, prefix_length: int, grid: tuple[int, int]) -> None:
        super().__init__()
        mask = stream_mask(kind, prefix_length, grid)
        image = torch.arange(grid[0] * grid[1]).view(grid)
        image = (image.T if kind == "column" else image).flatten()
        image = image[image < len(image) - 1]  # the last image token is never an input
        order = torch.cat([torch.arange(prefix_length), prefix_length + image])
        self.register_buffer("mask", mask[order][:, order], persistent=False)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", order.argsort(), persistent=False)
        self._blocks: Any = None

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attend = compiled_flex_attention() if q.is_cuda else flex_attention
        q, k, v = (x[:, :, self.order] for x in (q, k, v))
        return attend(q, k, v, block_mask=self._block_mask(q.device))[:, :, self.inverse]

    def _block_mask(self, device: torch.device) -> Any:
        if self._blocks is None:
            mask, length = self.get_buffer("mask"), len(self.order)
            self._blocks = create_block_mask(
                lambda batch, head, q, k: mask[q, k], None, None, length, length, device=str(device)
            )
        return self._blocks


@cache
def compiled_flex_attention() -> Any:
    """FlexAttention is one fused kernel only when compiled; run eagerly it is a dense reference."""
    return torch.compile(flex_attention, dynamic=False)
