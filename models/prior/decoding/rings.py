"""Ring buffers: where a layer stores a slot's image tokens, and which of them a query reads.

Every mask among image tokens is a set of offsets in raster order: the query at position q sees the key at q - d for
each offset d with q - d >= 0 (see :func:`models.prior.masks.offsets`). A slot therefore needs to store only the tokens
that later queries still see. What each ring buffer of a 3 x 4 grid holds after position 6 was written, by raster
position (. is an entry that was never written)::

    raster positions       row: size w + 1 = 5        column: size h w = 12        conv: size 12 (all)
       0  1  2  3          entry p mod 5              entry (p mod w) h + p div w   entry p mod 12
       4  5 [6] 7          5 [6] 2 3 4                0 4 .  1 5 .  2 [6] .  3 . .  0 1 2 3 4 5 [6] . . . . .
       8  9 10 11          6 has overwritten 1;                      ^  ^           on so small a grid the 11 x 11
                           all are read               one column is read            kernel reaches every token

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

    ``write`` int64 [S] is the entry for the token that each row of the step feeds; ``read`` int64 [S, M] are those that
    its query reads afterwards, furthest back first, -1 for a key before the image's beginning. Entries are numbered
    through the ring buffers of all slots, laid end to end.
    """

    write: Tensor
    read: Tensor

    def put(self, rings: Tensor, new: Tensor) -> None:
        """Write the rows' keys or values ``new`` [S, A, E] into ring buffers [slots, size, A, E]."""
        rings.flatten(0, 1)[self.write] = new

    def gather(self, rings: Tensor) -> Tensor:
        """Return the entries to read, [S, M, A, E], of ring buffers [slots, size, A, E]; arbitrary for entry -1."""
        # index_select of whole entries [A E] is faster than indexing with a tensor.
        entries = rings.flatten(2).flatten(0, 1).index_select(0, self.read.clamp(min=0).flatten())
        return entries.view(*self.read.shape, *rings.shape[2:])

    def bias(self, dtype: torch.dtype) -> Tensor:
        """Return what to add to the scores, [S, 1, 1, M]: 0, or -inf where there is no key."""
        zeros = torch.zeros(self.read.shape, device=self.read.device, dtype=dtype)
        return zeros.masked_fill(self.read < 0, -torch.inf)[:, None, None]


class RingBuffer:
    """The ring buffer of one kind of layer: ``size`` entries for each slot, and the rule where each token is stored.

    A row and a conv layer store the last ``size`` tokens and read those that the mask shows. A column layer stores
    every token, column after column, so that those it reads lie side by side.

    A step may feed up to ``window`` tokens of a slot, at positions that follow each other: all are written, then each
    reads what its own position sees. Keys are read in raster order, wherever they lie: so a sum is the same to the last
    bit for any window, and memory is read forwards, which is faster than backwards.
    """

    def __init__(self, kind: Kind, grid: tuple[int, int], device: torch.device, window: int = 1) -> None:
        self.kind, self.grid = kind, grid
        seen = offsets(kind, grid)
        # A token may be overwritten once it is further back than the largest offset from the first of the window. For a
        # column that would save less than a row of tokens, and not keep each column together: store them all.
        length = grid[0] * grid[1]
        self.size = length if kind == "column" else min(length, int(seen[-1]) + window)
        self.offsets = seen.flip(0).to(device)

    def entry(self, positions: Tensor) -> Tensor:
        """Return the entries at which the tokens of raster ``positions``, int64 of any shape, are stored."""
        height, width = self.grid
        return positions % width * height + positions // width if self.kind == "column" else positions % self.size

    def step(self, positions: Tensor, owners: Tensor) -> RingStep:
        """Return what a step writes and reads whose rows feed tokens at ``positions`` [S] of slots ``owners`` [S]."""
        first = owners * self.size
        seen = positions[:, None] - self.offsets
        read = (first[:, None] + self.entry(seen)).masked_fill(seen < 0, -1)
        return RingStep(first + self.entry(positions), read)
