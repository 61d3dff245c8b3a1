"""Attention over a whole stream under one of the three masks, in three implementations.

All three compute the same function of q, k, v [B, A, L, E]; the dense one is the reference for the others. A capital
suffix of a local name is its shape (B batch, A heads, L stream, E head width, N image tokens, G lines of R tokens
each, M keys); ``GR`` and ``GM`` stand for two dimensions.
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
"""Stream length from which sparse attention is faster than dense; the tiny preset stays dense."""

LOCAL_MAX_SHARE = 1 / 8
"""Share of a stream's keys up to which :class:`LocalAttention` is faster than torch's fused dense attention.

Measured by jobs/benchmarks/bench_attention.py: 1.7 and 1.9 times as fast for row and column, 0.9 for conv, at 32 x 32
tokens.
"""


class DenseAttention(nn.Module):
    """Attention that computes every query-key pair and masks those that the kind of layer hides."""

    mask: Tensor

    def __init__(self, kind: Kind, prefix_length: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("mask", stream_mask(kind, prefix_length, grid), persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return what the queries of a stream's first L_ inputs gather: [B, A, L_, E] x 3 -> [B, A, L_, E]."""
        length = q.shape[-2]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask[:length, :length])


class LocalAttention(nn.Module):
    """Attention that computes, for each line of the image, only the prefix and the lines that it can see; for a CPU.

    A line is a row of the grid, or a column for ``column`` layers. The queries of a line see keys of that line and of
    the ``reach`` lines before it: 1 for ``row``, 0 for ``column``, 6 for ``conv`` (its kernel reaches 5 rows up, and
    one more where it wraps around a row end). In a 4 x 4 grid, the queries of line 2 of a ``row`` layer read::

        line 0   . . . .
        line 1   k k k k      reach = 1, so M = (reach + 1) R = 8 image keys,
        line 2   q q q q      of which the mask hides those that a query does not see,
        line 3   . . . .      and all P keys of the prefix

    At 32 x 32 tokens and P = 258 that is 322, 290 or 482 keys a query (row, column, conv) instead of L = 1281.
    """

    mask: Tensor

    def __init__(self, kind: Kind, prefix_length: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.prefix_length, self.grid, self.by_column = prefix_length, grid, kind == "column"
        visible_NN = image_mask(kind, grid)
        # The raster position of each line's tokens. For a 2 x 3 grid: row and conv  0 1 2     column  0 3
        #                                                                            3 4 5             1 4
        #                                                                                              2 5
        tokens_GR = self._lines(torch.arange(len(visible_NN)).view(1, 1, -1, 1))[0, 0, :, :, 0]
        lines, line_length = tokens_GR.shape
        line_N = torch.empty(len(visible_NN), dtype=torch.long)  # the inverse: the line of each raster position
        line_N[tokens_GR.flatten()] = torch.arange(lines).repeat_interleave(line_length)
        query, key = visible_NN.nonzero().unbind(1)
        self.reach = int((line_N[query] - line_N[key]).max())
        # The raster position of the keys that each line reads, in the order in which _with_lines_before lays them:
        # its lines g - reach .. g end to end. Above the first line there is nothing, marked by -1.
        above_GR = tokens_GR.new_full((self.reach, line_length), -1)
        keys_GM = torch.cat([above_GR, tokens_GR]).unfold(0, self.reach + 1, 1).transpose(1, 2).flatten(1)
        mask_GRM = visible_NN[tokens_GR[:, :, None], keys_GM[:, None].clamp(min=0)] & (keys_GM[:, None] >= 0)
        self.register_buffer("mask", mask_GRM, persistent=False)

    @property
    def is_faster_than_dense(self) -> bool:
        """Whether this is faster than :class:`DenseAttention` on a CPU."""
        return self.mask.shape[-1] <= LOCAL_MAX_SHARE * (self.prefix_length + self.grid[0] * self.grid[1])

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return what the queries of a whole stream gather: [B, A, L, E] x 3 -> [B, A, L, E]."""
        prefix = self.prefix_length
        prefix_k, prefix_v = k[:, :, :prefix], v[:, :, :prefix]
        prefix_out = F.scaled_dot_product_attention(q[:, :, :prefix], prefix_k, prefix_v, is_causal=True)

        # The last image token is never an input: pad its place, so that the image is G whole lines.
        missing = self.grid[0] * self.grid[1] - (q.shape[2] - prefix)
        q_BAGRE, k_BAGRE, v_BAGRE = (self._lines(F.pad(x[:, :, prefix:], (0, 0, 0, missing))) for x in (q, k, v))
        k_BAGME, v_BAGME = self._with_lines_before(k_BAGRE), self._with_lines_before(v_BAGRE)

        # All lines read the same prefix: one product of G R queries a head. The image keys are a product for each line.
        q_BAGRE = q_BAGRE * q.shape[-1] ** -0.5
        lines = q_BAGRE.shape[2:4]
        prefix_scores_BAGRP = torch.unflatten(q_BAGRE.flatten(2, 3) @ prefix_k.mT, 2, lines)
        image_scores_BAGRM = (q_BAGRE @ k_BAGME.mT).masked_fill(~self.mask, -torch.inf)

        # One softmax over both, since a query divides its attention between text and image.
        scores = torch.cat([prefix_scores_BAGRP, image_scores_BAGRM], dim=-1)
        weights = scores.softmax(dim=-1).to(v.dtype)
        of_prefix_BAGRE = torch.unflatten(weights[..., :prefix].flatten(2, 3) @ prefix_v, 2, lines)
        out_BAGRE = of_prefix_BAGRE + weights[..., prefix:] @ v_BAGME

        out_BANE = (out_BAGRE.transpose(2, 3) if self.by_column else out_BAGRE).flatten(2, 3)  # raster order again
        return torch.cat([prefix_out, out_BANE[:, :, : out_BANE.shape[2] - missing]], dim=2)

    def _lines(self, x: Tensor) -> Tensor:
        """Cut an image [B, A, N, E] into its G lines of R tokens, [B, A, G, R, E]."""
        x = torch.unflatten(x, 2, self.grid)
        return x.transpose(2, 3) if self.by_column else x

    def _with_lines_before(self, x: Tensor) -> Tensor:
        """Append each line to the ``reach`` lines before it, zeros above the first: [B, A, G, R, E] -> [B, A, G, M, E].

        For reach 1, lines a b c become 0a ab bc.
        """
        lines = x.shape[2]
        x = F.pad(x, (0, 0, 0, 0, self.reach, 0))
        return torch.cat([x[:, :, first : first + lines] for first in range(self.reach + 1)], dim=3)


class FlexAttention(nn.Module):
    """Attention by torch's FlexAttention, which skips blocks of 128 x 128 query-key pairs that the mask hides wholly.

    It is for a GPU. ``column`` layers read the image column after column, see the constructor.
    """

    order: Tensor
    inverse: Tensor

    def __init__(self, kind: Kind, prefix_length: int, grid: tuple[int, int]) -> None:
        super().__init__()
        mask = stream_mask(kind, prefix_length, grid)
        # Only a block without any visible pair is skipped. In raster order the tokens of a column lie w apart, so that
        # every block has some; column after column they are neighbours, and few blocks have any. For a 3 x 4 grid,
        # the keys that the query at raster position 9 sees:
        #     raster order   0 1 2 3 4 5 6 7 8 9 10 11        column order   0 4 8 1 5 9 2 6 10 3 7 11
        #                      ^       ^       ^                                   ^ ^ ^
        image = torch.arange(grid[0] * grid[1]).view(grid)
        image = (image.T if kind == "column" else image).flatten()
        image = image[image < len(image) - 1]  # the last image token is never an input
        order = torch.cat([torch.arange(prefix_length), prefix_length + image])
        self.register_buffer("mask", mask[order][:, order], persistent=False)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", order.argsort(), persistent=False)
        self._blocks: Any = None

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return what the queries of a whole stream gather: [B, A, L, E] x 3 -> [B, A, L, E]."""
        attend = compiled_flex_attention() if q.is_cuda else flex_attention
        q, k, v = (x[:, :, self.order] for x in (q, k, v))
        out: Tensor = attend(q, k, v, block_mask=self._block_mask(q.device))
        return out[:, :, self.inverse]

    def _block_mask(self, device: torch.device) -> Any:
        """Return the table of non-empty blocks, made at the first call, on the device of that call."""
        if self._blocks is None:
            mask, length = self.get_buffer("mask"), len(self.order)

            def is_visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001 (torch's)
                return mask[query, key]

            self._blocks = create_block_mask(is_visible, None, None, length, length, device=str(device))
        return self._blocks


@cache
def compiled_flex_attention() -> Any:
    """Return FlexAttention compiled to one fused kernel; uncompiled it computes every pair."""
    return torch.compile(flex_attention, dynamic=False)
