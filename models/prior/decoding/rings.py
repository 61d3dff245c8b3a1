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
class RingStep:
    """One decoding step in every ring of a kind.

    ``write`` int64 [S] is each slot's place for its token, ``places`` int64 [S, M] are those that it then reads, -1
    where nothing has been written yet. With ``reads_whole_ring`` they are the whole ring in its own order.
    """

    write: Tensor
    places: Tensor
    reads_whole_ring: bool

    def seen(self, ring: Tensor) -> Tensor:
        """The places [S, M, A, E] of a ring [S, size, A, E]."""
        if self.reads_whole_ring:
            return ring
        first = torch.arange(len(ring), device=ring.device)[:, None] * ring.shape[1]
        rows = ring.flatten(2).flatten(0, 1).index_select(0, (first + self.places.clamp(min=0)).flatten())
        return rows.view(len(ring), -1, *ring.shape[2:])

    def bias(self, dtype: torch.dtype) -> Tensor:
        """[S, 1, 1, M]: -inf where there is nothing to see."""
        zeros = torch.zeros(self.places.shape, device=self.places.device, dtype=dtype)
        return zeros.masked_fill(self.places < 0, -torch.inf)[:, None, None]


class Ring:
    """``size`` places a slot for the layers of one kind.

    A row layer keeps its last tokens and reads them all, in whatever order. A column layer keeps every token, column
    after column, and reads one column. A conv layer keeps its last tokens and picks those in its window.
    """

    def __init__(self, kind: Kind, grid: tuple[int, int], device: torch.device) -> None:
        self.kind, self.grid = kind, grid
        seen = offsets(kind, grid)
        self.size = grid[0] * grid[1] if kind == "column" else int(seen[-1]) + 1
        self.offsets = seen.to(device)

    def place(self, positions: Tensor) -> Tensor:
        """Raster positions -> places."""
        height, width = self.grid
        return positions % width * height + positions // width if self.kind == "column" else positions % self.size

    def step(self, positions: Tensor) -> RingStep:
        """What one token at raster ``positions`` int64 [S] of every slot writes and reads."""
        if self.kind == "row":
            places = torch.arange(self.size, device=positions.device).expand(len(positions), -1)
            return RingStep(self.place(positions), places.masked_fill(places > positions[:, None], -1), True)
        seen = positions[:, None] - self.offsets
        return RingStep(self.place(positions), self.place(seen).masked_fill(seen < 0, -1), False)
