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

Every block has the same number of queries (all rows of a step, if those are fewer), so that a candidate's numbers do
not depend on how many others share its caption.
"""


@dataclass(frozen=True)
class BlockGroup:
    """Consecutive blocks ``first`` to ``end`` - 1 that attend in one product.

    They read the stored ``captions``: either one, which all of them read, or as many as there are blocks, of which each
    reads its own.
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

        It is possible if every block reads a caption of its own, and the captions are stored one after the other like
        the blocks: then the slice of captions and the slice of blocks match one to one.
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

    Each block has R places for queries. ``place_of_row`` int64 [S] is the place of each row's query among those of all
    blocks.
    """

    blocks: PartialAttention
    place_of_row: Tensor

    def in_row_order(self) -> PartialAttention:
        """Return the attention row by row of the step: ``out`` [S, A, 1, E] and ``lse`` [S, A, 1]."""
        return PartialAttention(*(x.transpose(1, 2).flatten(0, 1)[self.place_of_row].unsqueeze(2) for x in self.blocks))


class SharedText:
    """Text keys and values of up to C captions, and the S rows of a step, each of which attends to one of them.

    Captions are stored by :meth:`allocate` (whose caller fills its place) and dropped by :meth:`evict`; :meth:`assign`
    says which rows read which caption. ``keys`` and ``values`` are, for each layer, [C, A, P, E].

    With ``static`` every step is the same operations on the same shapes whatever is stored, as a compiled graph needs
    it; that costs computing the largest possible number of blocks, and copying the text that they read.
    """

    def __init__(
        self,
        layers: int,
        rows: int,
        captions: int,
        heads: int,
        prefix_length: int,
        head_width: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.rows, self.captions, self.device, self.static = rows, captions, device, False
        shape = (captions, heads, prefix_length, head_width)  # empty: a CPU gives memory only once it is written
        self.keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(layers)]
        self.values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(layers)]
        self._stored: dict[Caption, int] = {}  # which of the C each is
        self._members: dict[Caption, list[int]] = {}
        self._groups: list[BlockGroup] = []
        self.block = min(BLOCK_QUERIES, rows)
        # Most blocks are needed when all captions but one are read by a single row, and so need a block each.
        max_blocks = (rows - captions) // self.block + captions
        self._caption_of_block = torch.zeros(max_blocks, dtype=torch.long, device=device)
        self._row_of_place = torch.zeros(max_blocks * self.block, dtype=torch.long, device=device)
        self._place_of_row = torch.zeros(rows, dtype=torch.long, device=device)
        self._is_in_row_order = False  # whether place i is row i's, so that queries need no gathering

    def __contains__(self, caption: Caption) -> bool:
        return caption in self._stored

    @property
    def bytes(self) -> int:
        """Memory in bytes of the captions stored now."""
        return len(self._stored) * sum(tensor[0].nbytes for tensor in [*self.keys, *self.values])

    def evict(self, needed: Collection[Caption]) -> None:
        """Drop every caption that is not ``needed``."""
        self._stored = {caption: index for caption, index in self._stored.items() if caption in needed}

    def allocate(self, caption: Caption) -> int:
        """Reserve a place in ``keys`` and ``values`` for a caption, and return its index.

        Raises:
            RuntimeError: all C places are taken.
        """
        free = set(range(self.captions)) - set(self._stored.values())
        if not free:
            raise RuntimeError(f"the cache holds {self.captions} captions already: admit no more.")
        return self._stored.setdefault(caption, min(free))

    def assign(self, members: dict[Caption, list[int]]) -> None:
        """Let the rows ``members[caption]`` attend to that caption, which must be stored, until the next call.

        A row that is in no list attends to the text of some other row; its result is not meant to be used.
        """
        # Example: R = 4, caption 0 is read by rows 0, 1, 4, 5, 7 and caption 1 by rows 2, 3; row 6 is not in use.
        #
        #     block   caption   its places, by row
        #       0        0        0  1  4  5       \ one group: both blocks read caption 0
        #       1        0        7 (0  0  0)      /
        #       2        1        2  3 (2  2)        a group of its own
        #
        # What stands in ( ) fills a block up to R queries. Its results are never read: _place_of_row names the first
        # place of each row, here 0 1 8 9 2 3 0 4, where row 6 has place 0 because it needs some place.
        if members == self._members:
            return
        self._members = members
        self._groups = []
        caption_of_block: list[int] = []
        row_of_place: list[int] = []
        for caption, rows in sorted((self._stored[caption], rows) for caption, rows in members.items()):
            first, count = len(caption_of_block), -(-len(rows) // self.block)
            caption_of_block += [caption] * count
            row_of_place += rows + rows[:1] * (count * self.block - len(rows))
            self._add_group(BlockGroup(slice(caption, caption + 1), first, first + count))
        first_place = {row: place for place, row in reversed(list(enumerate(row_of_place)))}  # of several the first
        self._is_in_row_order = row_of_place == list(range(self.rows))
        self._caption_of_block[: len(caption_of_block)] = torch.tensor(caption_of_block, device=self.device)
        self._row_of_place[: len(row_of_place)] = torch.tensor(row_of_place, device=self.device)
        self._place_of_row.copy_(torch.tensor([first_place.get(row, 0) for row in range(self.rows)]))

    def _add_group(self, group: BlockGroup) -> None:
        """Append a group of blocks, merged with the last group if possible: fewer groups are fewer products a step."""
        if self._groups and (merged := self._groups[-1].merged_with(group)):
            self._groups[-1] = merged
        else:
            self._groups.append(group)

    def attend(self, layer: int, q: Tensor) -> TextAttention:
        """Attend in one layer from each row's query [S, A, 1, E] to the caption that it is assigned."""
        keys, values, q_blocks = self.keys[layer], self.values[layer], self._in_blocks(q)
        if self.static:
            blocks = partial_attention(q_blocks, self._text_of_blocks(keys), self._text_of_blocks(values))
            return TextAttention(blocks, self._place_of_row)
        parts = [group.attend(q_blocks, keys, values) for group in self._groups]
        if len(parts) == 1:
            return TextAttention(parts[0], self._place_of_row)
        blocks = PartialAttention(*(torch.cat(of_groups) for of_groups in zip(*parts, strict=True)))
        return TextAttention(blocks, self._place_of_row)

    def _in_blocks(self, q: Tensor) -> Tensor:
        """Sort queries [S, A, 1, E] by the caption that they read: [blocks, A, R, E]."""
        q = q[:, :, 0]
        if self.static:
            q = q[self._row_of_place]
        elif not self._is_in_row_order:
            q = q[self._row_of_place[: self._groups[-1].end * self.block]]
        return torch.unflatten(q, 0, (-1, self.block)).transpose(1, 2)

    def _text_of_blocks(self, text: Tensor) -> Tensor:
        """Select from all captions' keys or values [C, A, P, E] what each block reads: [blocks, A, P, E]."""
        if self.captions == 1:  # need not be copied
            return text.expand(len(self._caption_of_block), -1, -1, -1)
        return text[self._caption_of_block]
