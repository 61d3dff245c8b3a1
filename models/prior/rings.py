"""Where a layer keeps the image tokens of a slot, and which of them a query reads.

Every mask among image tokens is a set of offsets in raster order: query q sees key q - d for each offset d with
q - d >= 0. A slot therefore needs only so many places, of which a query reads 33, 32 or 61 at 32 x 32 (row, column,
conv) where a dense cache reads up to 1281.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.prior.masks import Kind, offsets


@dataclass(frozen=True)
class Step:
    """One decoding step in every ring of a kind."""

    write: Tensor  # int64 [S], each slot's place for its token
    chunk: int  # places that are read in one piece
    read: Tensor | None  # int64 [pieces], rows of [S * size / chunk], or none where everything is read in order
    bias: Tensor  # [S, 1, 1, M], -inf where nothing has been written yet

    def seen(self, ring: Tensor) -> Tensor:
        """The places [S, M, A, E] of a ring [S, size, A, E] that the step's queries read."""
        if self.read is None:
            return ring
        pieces = ring.view(-1, self.chunk * ring.shape[2] * ring.shape[3]).index_select(0, self.read)
        return pieces.view(ring.shape[0], -1, *ring.shape[2:])


class Ring:
    """``size`` places a slot for the layers of one kind.

    A row layer keeps its last tokens and reads them all, in whatever order. A column layer keeps every token, column
    after column, and reads one column. A conv layer keeps its last tokens and picks those in its window.
    """

    def __init__(self, kind: Kind, grid: tuple[int, int], device: torch.device) -> None:
        self.kind, self.grid = kind, grid
        self.offsets = offsets(kind, grid).to(device)
        self.size = grid[0] * grid[1] if kind == "column" else int(self.offsets[-1]) + 1

    def place(self, positions: Tensor) -> Tensor:
        """Raster positions -> places."""
        height, width = self.grid
        return positions % width * height + positions // width if self.kind == "column" else positions % self.size

    def step(self, positions: Tensor, dtype: torch.dtype) -> Step:
        """What one token at raster ``positions`` int64 [S] of every slot writes and reads."""
        slots = torch.arange(len(positions), device=positions.device)
        height, width = self.grid
        if self.kind == "row":
            chunk, read, visible = 1, None, _up_to(positions, self.size)
        elif self.kind == "column":
            chunk, read, visible = height, slots * width + positions % width, _up_to(positions // width, height)
        else:
            seen = positions[:, None] - self.offsets
            chunk, read, visible = 1, (slots[:, None] * self.size + seen % self.size).flatten(), seen >= 0
        bias = torch.zeros(visible.shape, device=visible.device, dtype=dtype).masked_fill(~visible, -torch.inf)
        return Step(self.place(positions), chunk, read, bias[:, None, None])


def _up_to(last: Tensor, count: int) -> Tensor:
    """Bool [S, count]: which of ``count`` places are not after ``last`` [S]."""
    return torch.arange(count, device=last.device) <= last[:, None]
