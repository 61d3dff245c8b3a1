"""Keys and values of captions, stored once for all the candidates of a caption."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from models.prior.decoding.partial_attention import PartialAttention, partial_attention

Caption = tuple[int, ...]
"""A caption's BPE ids, without pads: the key under which its text is stored."""

BLOCK_QUERIES = 16
"""Queries in one block: candidates of one caption that attend to its text in one matrix product."""

KEYS_AT_ONCE = 16
"""Room for keys is a multiple of this, so that ``kernels.c`` computes whole vectors of scores."""


@dataclass(frozen=True)
class LayerText:
    """One layer's keys and values of C captions.

    Attributes:
        keys: [C, A, E, P], P being the prefix length rounded up: for each feature the keys of all positions, since then
            the scores of many positions are computed in one go.
        values: [C, A, prefix length, E].
        key_scales, value_scales: float32 [C, A, P]: what each position's keys and values are to be multiplied by, if
            they are int8; else empty.
    """

    keys: Tensor
    values: Tensor
    key_scales: Tensor
    value_scales: Tensor

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All of it, in the order of the attributes."""
        return self.keys, self.values, self.key_scales, self.value_scales

    @property
    def bytes_per_caption(self) -> int:
        """Memory in bytes of one caption's part."""
        return sum(tensor.nbytes for tensor in self.tensors) // len(self.keys)

    def store(self, index: int, k: Tensor, v: Tensor) -> None:
        """Store keys and values [A, prefix length, E] as those of the caption ``index``."""
        length = k.shape[1]
        if self.keys.dtype == torch.int8:
            k, self.key_scales[index, :, :length] = round_to_int8(k)
            v, self.value_scales[index, :, :length] = round_to_int8(v)
        self.keys[index, :, :, :length], self.values[index] = k.mT, v

    def read(self, index: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the keys and values [n, A, prefix length, E] in ``dtype`` of the captions ``index`` int64 [n]."""
        length, of = self.values.shape[2], slice(None) if len(self.keys) == 1 else index  # one need not be copied
        keys, values = self.keys[of, :, :, :length].mT.to(dtype), self.values[of].to(dtype)
        if self.keys.dtype == torch.int8:
            keys = keys * self.key_scales[of, :, :length, None].to(dtype)
            values = values * self.value_scales[of, :, :length, None].to(dtype)
        return keys.expand(len(index), -1, -1, -1), values.expand(len(index), -1, -1, -1)


def round_to_int8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round x [..., E] to int8; return it and what to multiply it by, float32 [...]."""
    scales = x.float().abs().amax(dim=-1).clamp(min=1e-20) / 127
    return (x.float() / scales[..., None]).round().to(torch.int8), scales


class SharedText:
    """Text keys and values of up to C captions, and the S rows of a step, each of which attends to one of them.

    Captions are stored layer by layer at a place that :meth:`allocate` reserves, and dropped by :meth:`evict`;
    :meth:`assign` says which rows read which caption.

    Attributes:
        layers: the keys and values of each layer, in ``dtype``.
        readers: int64 [2, S]: rows of a step, those of one caption side by side, and the caption that each of them
            reads, or -1: nobody uses that row.
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
        self.rows, self.captions = rows, captions
        room = -(-prefix_length // KEYS_AT_ONCE) * KEYS_AT_ONCE
        new = partial(torch.empty, device=device)  # not zeros: a CPU gives memory only once it is written
        self.layers = [
            LayerText(
                new(captions, heads, head_width, room, dtype=dtype),
                new(captions, heads, prefix_length, head_width, dtype=dtype),
                *(new((captions, heads, room) if dtype == torch.int8 else 0, dtype=torch.float32) for _ in range(2)),
            )
            for _ in range(layers)
        ]
        self.readers = torch.stack([torch.arange(rows), torch.full((rows,), -1)]).to(device)
        self._stored: dict[Caption, int] = {}  # which of the C each is
        self._members: dict[Caption, list[int]] = {}
        self._blocks = TextBlocks(rows, captions, device)

    def __contains__(self, caption: Caption) -> bool:
        return caption in self._stored

    @property
    def bytes(self) -> int:
        """Memory in bytes of the captions stored now."""
        return len(self._stored) * sum(layer.bytes_per_caption for layer in self.layers)

    def evict(self, needed: Collection[Caption]) -> None:
        """Drop every caption that is not ``needed``."""
        self._stored = {caption: index for caption, index in self._stored.items() if caption in needed}

    def allocate(self, caption: Caption) -> int:
        """Reserve a place for a caption, and return its index.

        Raises:
            RuntimeError: all C places are taken.
        """
        free = set(range(self.captions)) - set(self._stored.values())
        if not free:
            raise RuntimeError(f"the cache holds {self.captions} captions already: admit no more.")
        return self._stored.setdefault(caption, min(free))

    def assign(self, members: dict[Caption, list[int]]) -> None:
        """Let the rows ``members[caption]`` attend to that caption, which must be stored, until the next call.

        What a row in no list attends to is not meant to be used.
        """
        if members == self._members:
            return
        self._members = members
        rows_of = dict(sorted((self._stored[caption], rows) for caption, rows in members.items()))
        used = [(row, caption) for caption, rows in rows_of.items() for row in rows]
        unused = set(range(self.rows)) - {row for row, _ in used}
        self.readers.copy_(torch.tensor([*used, *((row, -1) for row in sorted(unused))]).T)
        self._blocks.assign(rows_of)

    def attend(self, layer: int, q: Tensor) -> PartialAttention:
        """Attend in one layer by torch from each row's query [S, A, 1, E] to the caption that it is assigned."""
        return self._blocks.attend(q, self.layers[layer])


class TextBlocks:
    """Which text the rows of a step attend to, in blocks of R rows: what :meth:`attend` needs to do so by torch.

    Every block has the same number of queries (all rows of a step, if those are fewer), so that a candidate's numbers
    do not depend on how many others share its caption. A compiled step, whose shapes never change, computes as many
    blocks as any step can need.
    """

    # Example: R = 4, caption 0 is read by rows 0, 1, 4, 5, 7 and caption 1 by rows 2, 3; row 6 is not in use.
    #
    #     block   caption   its places, by row
    #       0        0        0  1  4  5
    #       1        0        7 (0  0  0)
    #       2        1        2  3 (2  2)
    #
    # What stands in ( ) fills a block up to R queries. Its results are never read: place_of_row names the first place
    # of each row, here 0 1 8 9 2 3 0 4, where row 6 has place 0 because it needs some place.

    def __init__(self, rows: int, captions: int, device: torch.device) -> None:
        self.rows, self.size, self.used = rows, min(BLOCK_QUERIES, rows), 1
        # Most blocks are needed when all captions but one are read by a single row, and so need a block each.
        most = (rows - captions) // self.size + captions
        self.captions = torch.zeros(most, dtype=torch.long, device=device)
        self.row_of_place = torch.zeros(most * self.size, dtype=torch.long, device=device)
        self.place_of_row = torch.zeros(rows, dtype=torch.long, device=device)

    def assign(self, rows_of: dict[int, list[int]]) -> None:
        """Let the rows ``rows_of[caption]`` read the caption of that index."""
        blocks = [
            (caption, rows[first : first + self.size])
            for caption, rows in rows_of.items()
            for first in range(0, len(rows), self.size)
        ]
        self.used = max(1, len(blocks))
        places = [row for _, rows in blocks for row in rows + rows[:1] * (self.size - len(rows))]
        first_place = {row: place for place, row in reversed(list(enumerate(places)))}  # of several the first
        self.captions[: len(blocks)] = torch.tensor([caption for caption, _ in blocks], device=self.captions.device)
        self.row_of_place[: len(places)] = torch.tensor(places, device=self.captions.device)
        self.place_of_row.copy_(torch.tensor([first_place.get(row, 0) for row in range(self.rows)]))

    def attend(self, q: Tensor, text: LayerText) -> PartialAttention:
        """Attend from each row's query [S, A, 1, E] to its caption: ``out`` [S, A, 1, E] and ``lse`` [S, A, 1]."""
        used = len(self.captions) if torch.compiler.is_compiling() else self.used
        in_blocks = torch.unflatten(q[self.row_of_place[: used * self.size], :, 0], 0, (-1, self.size)).transpose(1, 2)
        blocks = partial_attention(in_blocks, *text.read(self.captions[:used], q.dtype))
        return PartialAttention(*(x.transpose(1, 2).flatten(0, 1)[self.place_of_row].unsqueeze(2) for x in blocks))
