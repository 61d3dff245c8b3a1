"""Ring buffers: what a row reads is what its mask shows, in raster order, whatever was fed beside it and before."""

from __future__ import annotations

import random

import pytest
import torch

from models.prior.decoding.rings import RingBuffer
from models.prior.masks import Kind, image_mask, offsets

GRID = (7, 9)
N = GRID[0] * GRID[1]
CPU = torch.device("cpu")
SLOTS = 3

KINDS = pytest.mark.parametrize("kind", ["row", "column", "conv"])


@KINDS
def test_a_ring_buffer_is_what_the_mask_sees(kind: Kind) -> None:
    """Tokens fed one after the other: at each, the entries read hold exactly the keys that the mask allows."""
    ring, mask = RingBuffer(kind, GRID, CPU), image_mask(kind, GRID)
    holds = torch.full((SLOTS, ring.size), -1)
    for position in range(N):
        step = ring.step(torch.tensor([position]), torch.tensor([1]))
        holds.flatten()[step.write] = position
        seen = holds.flatten()[step.read[0][step.read[0] >= 0]]
        assert sorted(seen.tolist()) == mask[position].nonzero()[:, 0].tolist()
    assert (holds[[0, 2]] == -1).all()


@KINDS
@pytest.mark.parametrize("window", [1, 2, 5, 16, N])
def test_keys_are_read_in_raster_order_whatever_was_drafted_before(kind: Kind, window: int) -> None:
    """Two slots advance by random numbers of tokens; all that was written beyond these is wrong, marked by -1."""
    chance, ring, seen = random.Random(window), RingBuffer(kind, GRID, CPU, window), offsets(kind, GRID)
    holds = torch.full((SLOTS * ring.size,), -1)
    begun = {0: 0, 2: 0}
    while any(position < N for position in begun.values()):
        rows = [
            (slot, position + place)
            for slot, position in begun.items()
            for place in range(chance.randint(1, window))
            if position + place < N
        ]
        chance.shuffle(rows)
        owners, positions = torch.tensor(rows).unbind(1)
        step = ring.step(positions, owners)
        holds[step.write] = positions
        for (_, position), read in zip(rows, step.read, strict=True):
            expected = [position - offset for offset in reversed(seen.tolist()) if offset <= position]
            assert holds[read[read >= 0]].tolist() == expected
        for slot, position in begun.items():
            right = chance.randint(1, window)
            wrong = (owners == slot) & (positions >= position + right)
            holds[step.write[wrong]] = -1
            begun[slot] = min(position + right, int(positions[owners == slot].max()) + 1) if position < N else N


def test_a_window_costs_a_ring_buffer_no_more_than_its_entries() -> None:
    assert [RingBuffer("row", (32, 32), CPU, window).size for window in (1, 16)] == [33, 48]
    assert [RingBuffer("conv", (32, 32), CPU, window).size for window in (1, 16)] == [166, 181]
    assert [RingBuffer("column", (32, 32), CPU, window).size for window in (1, 16)] == [1024, 1024]
    assert RingBuffer("row", (2, 3), CPU, 16).size == 6
