"""Keys and values of captions, stored once for all the candidates of a caption."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from models.prior.decoding.partial_attention import PartialAttention, partial_attention

Caption = tuple[int, ...]
"""A caption's BPE ids, without pads: the key under which its text is stored."""

BLOCK_QUERIES = 16
"""Queries in one block: candidates of one caption that attend to its text in one matrix product.

Every block has the same number of queries (all slots, if those are fewer), so that a candidate's numbers do not depend
on how many others share its caption.
"""


@dataclass(frozen=True)
class BlockGroup:
    """Consecutive blocks ``first`` to ``end`` - 1 that attend in one product.

    They read the captions stored in the rows ``captions``: either one caption, which all of them read, or as many as
    there are blocks, of which each reads its own.
    """

    captions: slice
    first: int
    end: int

    def attend(self, q_blocks: Tensor, keys: Tensor, values: Tensor) -> PartialAttention:
        """Attend from the queries of this group's blocks, among all [blocks, A, R, E], to its captions [C, A, P, E]."""
        q = q_blocks[self.first : self.end]
        # expand: one caption is read by all blocks without being copied for each.
        return partial_attention(q, *(text[self.captions].expand(len(q), -1, -1, -1) for text in (keys, values)))

    def merged_with(self, following: BlockGroup) -> BlockGroup | None:
        """Return both groups as one, or None where that is impossible without copying text.

        It is possible if every block reads a caption of its own, and the rows of the captions are consecutive like the
        blocks: then the slice of rows and the slice of blocks match one to one.
        """
        one_caption_each = all(
            group.end - group.first == group.captions.stop - group.captions.start for group in (self, following)
        )
        if one_caption_each and self.captions.stop == following.captions.start:
            return BlockGroup(slice(self.captions.start, following.captions.stop), self.first, following.end)
        return None


@dataclass(frozen=True)
class TextAttention:
    """Attention to the text, in blocks: ``blocks`` has ``out`` [blocks, A, R, E] and ``lse`` [blocks, A, R].

    ``row_of_slot`` int64 [S] is the row of each slot's query among the blocks R rows laid end to end.
    """

    blocks: PartialAttention
    row_of_slot: Tensor

    def in_slot_order(self) -> PartialAttention:
        """Return the attention slot by slot: ``out`` [S, A, 1, E] and ``lse`` [S, A, 1]."""
        return PartialAttention(*(x.transpose(1, 2).flatten(0, 1)[self.row_of_slot].unsqueeze(2) for x in self.blocks))


class SharedText:
    """Text keys and values of up to C captions, and the S slots, each of which attends to one of them.

    Captions are stored by :meth:`allocate` (whose caller fills the row) and dropped by :meth:`evict`; :meth:`assign`
    says which slots read which caption. ``keys`` and ``values`` are, for each layer, [C, A, P, E].

    With ``static`` every step is the same operations on the same shapes whatever is stored, as a compiled graph needs
    it; that costs computing the largest possible number of blocks, and copying the text that they read.
    """

    def __init__(
        self,
        layers: int,
        slots: int,
        captions: int,
        heads: int,
        prefix_length: int,
        head_width: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.slots, self.captions, self.device, self.static = slots, captions, device, False
        shape = (captions, heads, prefix_length, head_width)  # empty: a CPU gives memory only once it is written
        self.keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(layers)]
        self.values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(layers)]
        self._rows: dict[Caption, int] = {}
        self._members: dict[Caption, list[int]] = {}
        self._groups: list[BlockGroup] = []
        self.block = min(BLOCK_QUERIES, slots)
        # Most blocks are needed when all captions but one have a single slot, and so a block each.
        max_blocks = (slots - captions) // self.block + captions
        self._caption_of_block = torch.zeros(max_blocks, dtype=torch.long, device=device)
        self._slot_of_row = torch.zeros(max_blocks * self.block, dtype=torch.long, device=device)
        self._row_of_slot = torch.zeros(slots, dtype=torch.long, device=device)
        self._is_in_slot_order = False  # whether row i is slot i's, so that queries need no gathering

    def __contains__(self, caption: Caption) -> bool:
        return caption in self._rows

    @property
    def bytes(self) -> int:
        """Memory in bytes of the captions stored now."""
        return len(self._rows) * sum(tensor[0].nbytes for tensor in [*self.keys, *self.values])

    def evict(self, needed: Collection[Caption]) -> None:
        """Drop every caption that is not ``needed``."""
        self._rows = {caption: row for caption, row in self._rows.items() if caption in needed}

    def allocate(self, caption: Caption) -> int:
        """Reserve a row of ``keys`` and ``values`` for a caption, and return its number.

        Raises:
            RuntimeError: all C rows are taken.
        """
        free = set(range(self.captions)) - set(self._rows.values())
        if not free:
            raise RuntimeError(f"the cache holds {self.captions} captions already: admit no more.")
        return self._rows.setdefault(caption, min(free))

    def assign(self, members: dict[Caption, list[int]]) -> None:
        """Let the slots ``members[caption]`` attend to that caption, which must be stored, until the next call.

        A slot that is in no list attends to the text of some other slot; its result is not meant to be used.
        """
        # Example: R = 4, row 0 is read by slots 0, 1, 4, 5, 7 and row 1 by slots 2, 3; slot 6 is not in use.
        #
        #     block   caption row   its queries, by slot
        #       0          0          0  1  4  5       \ one group: both blocks read row 0
        #       1          0          7 (0  0  0)      /
        #       2          1          2  3 (2  2)        a group of its own
        #
        # Rows in ( ) fill a block up to R queries. Their results are never read: _row_of_slot names the first row of
        # each slot, here 0 1 8 9 2 3 0 4, where slot 6 has row 0 because it needs some row.
        if members == self._members:
            return
        self._members = members
        self._groups = []
        caption_of_block: list[int] = []
        slot_of_row: list[int] = []
        for caption_row, slots in sorted((self._rows[caption], slots) for caption, slots in members.items()):
            first, count = len(caption_of_block), -(-len(slots) // self.block)
            caption_of_block += [caption_row] * count
            slot_of_row += slots + slots[:1] * (count * self.block - len(slots))
            self._add_group(BlockGroup(slice(caption_row, caption_row + 1), first, first + count))
        first_row = {slot: row for row, slot in reversed(list(enumerate(slot_of_row)))}  # of duplicates the first row
        self._is_in_slot_order = slot_of_row == list(range(self.slots))
        self._caption_of_block[: len(caption_of_block)] = torch.tensor(caption_of_block, device=self.device)
        self._slot_of_row[: len(slot_of_row)] = torch.tensor(slot_of_row, device=self.device)
        self._row_of_slot.copy_(torch.tensor([first_row.get(slot, 0) for slot in range(self.slots)]))

    def _add_group(self, group: BlockGroup) -> None:
        """Append a group of blocks, merged with the last group if possible: fewer groups are fewer products a step."""
        if self._groups and (merged := self._groups[-1].merged_with(group)):
            self._groups[-1] = merged
        else:
            self._groups.append(group)

    def attend(self, layer: int, q: Tensor) -> TextAttention:
        """Attend in one layer from each slot's query [S, A, 1, E] to the caption that it is assigned."""
        keys, values, q_blocks = self.keys[layer], self.values[layer], self._in_blocks(q)
        if self.static:
            blocks = partial_attention(q_blocks, self._text_of_blocks(keys), self._text_of_blocks(values))
            return TextAttention(blocks, self._row_of_slot)
        parts = [group.attend(q_blocks, keys, values) for group in self._groups]
        if len(parts) == 1:
            return TextAttention(parts[0], self._row_of_slot)
        blocks = PartialAttention(*(torch.cat(of_groups) for of_groups in zip(*parts, strict=True)))
        return TextAttention(blocks, self._row_of_slot)

    def _in_blocks(self, q: Tensor) -> Tensor:
        """Sort queries [S, A, 1, E] by the caption that they read: [blocks, A, R, E]."""
        q = q[:, :, 0]
        if self.static:
            q = q[self._slot_of_row]
        elif not self._is_in_slot_order:
            q = q[self._slot_of_row[: self._groups[-1].end * self.block]]
        return torch.unflatten(q, 0, (-1, self.block)).transpose(1, 2)

    def _text_of_blocks(self, text: Tensor) -> Tensor:
        """Select from all captions' keys or values [C, A, P, E] what each block reads: [blocks, A, P, E]."""
        if self.captions == 1:  # need not be copied
            return text.expand(len(self._caption_of_block), -1, -1, -1)
        return text[self._caption_of_block]
