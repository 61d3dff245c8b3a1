"""Ring buffers: where a layer stores a slot's image tokens, and which of them a query reads.

Every mask among image tokens is a set of offsets in raster order: the query at position q sees the key at q - d for
each offset d with q - d >= 0 (see :func:`models.prior.masks.offsets`). A slot therefore needs to store only the tokens
that later queries still see. What each ring buffer of a 3 x 4 grid holds after position 6 was written, by raster
position (. is an entry that was never written)::

    raster positions       row: size w + 1 = 5        column: size h w = 12        conv: size 12 (all)
       0  1  2  3          entry p mod 5              entry (p mod w) h + p div w   entry p mod 12
       4  5 [6] 7          5 [6] 2 3 4                0 4 .  1 5 .  2 [6] .  3 . .  0 1 2 3 4 5 [6] . . . . .
       8  9 10 11          6 has overwritten 1;                      ^  ^           on so small a grid the 11 x 11
                           all are read, as they lie  one column is read            window reaches every token

At 32 x 32 tokens a query reads 33, 32 or 61 entries (row, column, conv) of 33, 1024 or 166, where attention over a
dense cache reads up to 1281 keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.prior.masks import Kind, offsets


@dataclass(frozen=True)
class RingStep:
    """Which entries of the ring buffers one decode step writes and reads, in every layer of one kind.

    ``write`` int64 [S] is the entry for each slot's new token; ``read`` int64 [S, M] are those that its query reads
    afterwards, -1 for a key before the image's beginning. If ``reads_whole_ring``, entry m is read as key m.
    """

    write: Tensor
    read: Tensor
    reads_whole_ring: bool

    def gather(self, ring: Tensor) -> Tensor:
        """Return the entries to read, [S, M, A, E], of ring buffers [S, size, A, E]; arbitrary values for entry -1."""
        if self.reads_whole_ring:
            return ring
        # One index_select over the rows [S * size, A E] of all slots is faster than indexing with two tensors.
        first = torch.arange(len(ring), device=ring.device)[:, None] * ring.shape[1]
        rows = ring.flatten(2).flatten(0, 1).index_select(0, (first + self.read.clamp(min=0)).flatten())
        return rows.view(len(ring), -1, *ring.shape[2:])

    def bias(self, dtype: torch.dtype) -> Tensor:
        """Return what to add to the scores, [S, 1, 1, M]: 0, or -inf where there is no key."""
        zeros = torch.zeros(self.read.shape, device=self.read.device, dtype=dtype)
        return zeros.masked_fill(self.read < 0, -torch.inf)[:, None, None]


class RingBuffer:
    """The ring buffer of one kind of layer: ``size`` entries for each slot, and the rule where each token is stored.

    A row layer stores the last ``size`` tokens, all of which it reads. A conv layer stores the last ``size`` tokens and
    reads those in its window. A column layer stores every token, column after column, so that those it reads lie side
    by side.
    """

    def __init__(self, kind: Kind, grid: tuple[int, int], device: torch.device) -> None:
        self.kind, self.grid = kind, grid
        seen = offsets(kind, grid)
        # A token may be overwritten once it is further back than the largest offset. For a column that would save less
        # than a row of tokens, and not keep each column together: store them all.
        self.size = grid[0] * grid[1] if kind == "column" else int(seen[-1]) + 1
        self.offsets = seen.to(device)

    def entry(self, positions: Tensor) -> Tensor:
        """Return the entries at which the tokens of raster ``positions``, int64 of any shape, are stored."""
        height, width = self.grid
        return positions % width * height + positions // width if self.kind == "column" else positions % self.size

    def step(self, positions: Tensor) -> RingStep:
        """Return what a decode step writes and reads when it feeds one token at each of ``positions``, int64 [S]."""
        if self.kind == "row":
            # The entries hold exactly the keys that the query sees, and attention does not ask for their order: no
            # gather. Until the ring buffer is full, entry m is empty if m > position.
            entries = torch.arange(self.size, device=positions.device).expand(len(positions), -1)
            read = entries.masked_fill(entries > positions[:, None], -1)
            return RingStep(self.entry(positions), read, reads_whole_ring=True)
        seen = positions[:, None] - self.offsets
        return RingStep(self.entry(positions), self.entry(seen).masked_fill(seen < 0, -1), reads_whole_ring=False)
