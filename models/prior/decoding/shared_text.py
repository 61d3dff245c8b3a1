"""Keys and values of captions, each once for all the candidates that are drawn of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from models.prior.decoding.partial_attention import PartialAttention, partial_attention

Caption = tuple[int, ...]
"""BPE ids, without pads: what text keys and values are known by."""

BLOCK = 16
"""Candidates of one caption that attend to its text in one matrix product, always of this many rows (or of all slots,
where those are fewer)."""


@dataclass(frozen=True)
class Group:
    """Blocks [first, end) that read the captions in ``rows``: all of them the only one, or each block its own."""

    rows: slice
    first: int
    end: int

    def attend(self, blocks: Tensor, keys: Tensor, values: Tensor) -> PartialAttention:
        """Its queries among ``blocks`` [blocks, A, R, E] over its captions, which are not copied for them."""
        q = blocks[self.first : self.end]
        return partial_attention(q, *(text[self.rows].expand(len(q), -1, -1, -1) for text in (keys, values)))

    def joined(self, other: Group) -> Group | None:
        """Both as one product: if the blocks read a caption each, and those are neighbours."""
        each_its_own = all(group.end - group.first == group.rows.stop - group.rows.start for group in (self, other))
        if each_its_own and self.rows.stop == other.rows.start:
            return Group(slice(self.rows.start, other.rows.stop), self.first, other.end)
        return None


@dataclass(frozen=True)
class TextAttention:
    """What was gathered of the text in blocks [blocks, A, R, ...], and the place of each slot among their rows [S]."""

    blocks: PartialAttention
    place: Tensor

    def by_slot(self) -> PartialAttention:
        """The same, [S, A, 1, ...]."""
        return PartialAttention(*(x.transpose(1, 2).flatten(0, 1)[self.place].unsqueeze(2) for x in self.blocks))


class SharedText:
    """Room for C captions of P positions; S slots, each of which reads one of them, in blocks of R.

    With ``static`` every step is the same operations on the same shapes whatever is held, at the price of computing all
    the blocks that there could be and of copying their text.
    """

    def __init__(
        self,
        layers: int,
        slots: int,
        captions: int,
        heads: int,
        length: int,
        head_width: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.slots, self.captions, self.device, self.static = slots, captions, device, False
        shape = (captions, heads, length, head_width)  # a CPU gives memory only once it is written
        self.keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(layers)]
        self.values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(layers)]
        self._rows: dict[Caption, int] = {}
        self._members: dict[Caption, list[int]] = {}
        self._groups: list[Group] = []
        self.block = min(BLOCK, slots)
        blocks = (slots - captions) // self.block + captions  # the most there can be
        self._block_row = torch.zeros(blocks, dtype=torch.long, device=device)
        self._block_slots = torch.zeros(blocks * self.block, dtype=torch.long, device=device)
        self._place = torch.zeros(slots, dtype=torch.long, device=device)  # of each slot among the blocks' candidates
        self._in_order = False  # whether that is the slot's own number

    def __contains__(self, caption: Caption) -> bool:
        return caption in self._rows

    @property
    def bytes(self) -> int:
        """Memory of the captions held now."""
        return len(self._rows) * sum(tensor[0].nbytes for tensor in [*self.keys, *self.values])

    def evict(self, needed: Collection[Caption]) -> None:
        """Drop every caption that is not ``needed``."""
        self._rows = {caption: row for caption, row in self._rows.items() if caption in needed}

    def allocate(self, caption: Caption) -> int:
        """The row of ``keys`` and ``values`` that is from now on this caption's.

        Raises:
            RuntimeError: there is none left.
        """
        free = set(range(self.captions)) - set(self._rows.values())
        if not free:
            raise RuntimeError(f"the cache holds {self.captions} captions already: admit no more.")
        return self._rows.setdefault(caption, min(free))

    def assign(self, members: dict[Caption, list[int]]) -> None:
        """From now on the slots ``members[caption]`` read that caption, which is here; other slots read whatever."""
        if members == self._members:
            return
        self._members = members
        self._groups = []
        block_row: list[int] = []
        block_slots: list[int] = []
        for row, slots in sorted((self._rows[caption], slots) for caption, slots in members.items()):
            first, count = len(block_row), -(-len(slots) // self.block)
            block_row += [row] * count
            block_slots += slots + slots[:1] * (count * self.block - len(slots))
            self._add(Group(slice(row, row + 1), first, first + count))
        place = {slot: place for place, slot in reversed(list(enumerate(block_slots)))}
        self._in_order = block_slots == list(range(self.slots))
        self._block_row[: len(block_row)] = torch.tensor(block_row, device=self.device)
        self._block_slots[: len(block_slots)] = torch.tensor(block_slots, device=self.device)
        self._place.copy_(torch.tensor([place.get(slot, 0) for slot in range(self.slots)]))

    def _add(self, group: Group) -> None:
        if self._groups and (joined := self._groups[-1].joined(group)):
            self._groups[-1] = joined
        else:
            self._groups.append(group)

    def attend(self, layer: int, q: Tensor) -> TextAttention:
        """Queries [S, A, 1, E] of a layer over each slot's own caption."""
        keys, values, blocks = self.keys[layer], self.values[layer], self._blocks(q)
        if self.static:
            return TextAttention(partial_attention(blocks, self._of_blocks(keys), self._of_blocks(values)), self._place)
        parts = [group.attend(blocks, keys, values) for group in self._groups]
        part = (
            parts[0] if len(parts) == 1 else PartialAttention(*(torch.cat(both) for both in zip(*parts, strict=True)))
        )
        return TextAttention(part, self._place)

    def _blocks(self, q: Tensor) -> Tensor:
        """Queries [S, A, 1, E] by the caption that they read, [blocks, A, R, E]."""
        q = q[:, :, 0]
        if self.static:
            q = q[self._block_slots]
        elif not self._in_order:
            q = q[self._block_slots[: self._groups[-1].end * self.block]]
        return q.unflatten(0, (-1, self.block)).transpose(1, 2)

    def _of_blocks(self, text: Tensor) -> Tensor:
        """[C, A, P, E] -> what each block reads, [blocks, A, P, E]; one caption alone need not be copied."""
        if self.captions == 1:
            return text.expand(len(self._block_row), -1, -1, -1)
        return text[self._block_row]
