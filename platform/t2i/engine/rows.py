"""Which candidate each row of a decode step is for, as tensors.

A step has S rows, one for each slot. The row of a slot that holds a candidate feeds its newest token and draws the next
one. Rows of the other slots may be lent to candidates, whose drafts they feed: the rows of a candidate are its
*window*, and the one at place j draws the token j positions after the next. Of these four slots, slot 1 holds a
candidate that has the tokens a b c, and d e are its drafts:

    row        0    1    2    3
    slot       1    1    1    3        row 3 is not needed: what it computes is never read
    place      1    0    2    0
    feeds      d    c    e    -
    draws      y    x    z    -        x is the next token; if x = d, so is y after it; if also y = e, so is z
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from t2i.engine.scheduler import RunningCandidate


class Rows:
    """The rows of a step: ``slots`` and ``places`` int64 [S] as above, and ``windows``, the rows by slot, in order."""

    def __init__(self, windows: Mapping[int, list[int]], count: int, device: torch.device) -> None:
        self.windows, self._device = windows, device
        self.has_drafts = any(len(window) > 1 for window in windows.values())
        slots, places = list(range(count)), [0] * count
        for slot, window in windows.items():
            for place, row in enumerate(window):
                slots[row], places[row] = slot, place
        self.slots, self.places = self._tensor(slots), self._tensor(places)

    def of(self, slots: Sequence[int]) -> list[int]:
        """Return the rows of all these slots, those of one slot together."""
        return [row for slot in slots for row in self.windows[slot]]

    @cached_property
    def drafting(self) -> list[int]:
        """The slots that have drafts."""
        return [slot for slot, window in self.windows.items() if len(window) > 1]

    def accepted(self, fed: Tensor, drawn: Tensor) -> Tensor:
        """Return how many tokens of each slot in :attr:`drafting` are right, int64, by what all rows fed and drew."""
        before, after, is_draft = self._pairs
        came_true = (drawn[before] == fed[after]) & is_draft
        return 1 + came_true.cumprod(dim=1).sum(dim=1)

    @cached_property
    def _pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """The rows at places j and j + 1 of each slot in :attr:`drafting`, and whether it has a place j + 1."""
        windows = [torch.tensor(self.windows[slot]) for slot in self.drafting]
        rows = pad_sequence(windows, batch_first=True, padding_value=-1).to(self._device)
        return rows[:, :-1].clamp(min=0), rows[:, 1:].clamp(min=0), rows[:, 1:] >= 0

    def _tensor(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, device=self._device)


def windows(running: Sequence[RunningCandidate], drafts: Sequence[int], idle: Sequence[int]) -> dict[int, list[int]]:
    """Return the rows of each slot in use: its own, and of those of ``idle`` slots as many as it has ``drafts``.

    The twin of a guided candidate has as many as the candidate.
    """
    spare = iter(idle)
    return {
        slot: [slot, *(next(spare) for _ in range(count))]
        for each, count in zip(running, drafts, strict=True)
        for slot in ([each.slot] if each.twin is None else [each.slot, each.twin])
    }


def draft_source(positions: Tensor, last: Tensor, width: int) -> Tensor:
    """Return the position of the token that is fed at each of ``positions``, int64 [S], in a grid of this ``width``.

    It is the position itself up to ``last`` int64 [S], where tokens have been drawn, rightly or not. Further ahead the
    token is a copy of the nearest one above that has been drawn; in the first row of the grid, of the last drawn.
    """
    beyond = (positions - last).clamp(min=0)
    above = positions - (beyond + width - 1) // width * width
    return torch.where(above >= 0, above, last)
