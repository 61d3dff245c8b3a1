"""Keys and values for decoding: text once for all candidates of a caption, image tokens only while a mask sees them.

Every mask among image tokens is a set of offsets in raster order: query q sees key q - d for each offset d with
q - d >= 0. A layer therefore keeps a ring of its largest offset + 1 positions of each slot, and reads those at its
offsets: 33, 32 and 61 keys a token at 32 x 32 (row, column, conv) where a dense cache reads up to 1281.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from models.prior.masks import Kind, offsets
from models.prior.stream import StreamLayout

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""q, k, v [B, A, P, E] -> what each query gathers, [B, A, P, E]: one layer's mask and, when decoding, its cache."""

Caption = tuple[int, ...]
"""BPE ids, without pads: what text keys and values are known by."""

BLOCK = 16
"""Candidates of one caption that attend to its text in one matrix product. The shape of that product never changes, so
neither does a candidate's arithmetic, whoever its neighbours are."""


@dataclass(frozen=True)
class Step:
    """Where one decoding step reads and writes in every ring of a kind, as rows of [S * A * ring, E]."""

    write: Tensor  # int64 [S * A]
    read: Tensor | None  # int64 [S * A * M], or none where the whole ring is read
    visible: Tensor  # bool [S, 1, M]


class KVCache:
    """S slots, each a stream of image tokens in the making under one of the captions that are held."""

    def __init__(
        self,
        kinds: Sequence[Kind],
        slots: int,
        heads: int,
        head_width: int,
        layout: StreamLayout,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.kinds, self.slots, self.heads, self.layout = kinds, slots, heads, layout
        self.device, self.dtype = device, dtype
        self._offsets = {kind: offsets(kind, layout.grid).to(device) for kind in set(kinds)}
        ring = {kind: int(distances[-1]) + 1 for kind, distances in self._offsets.items()}
        shapes = [(slots * heads * ring[kind], head_width) for kind in kinds]
        self._ring = ring
        self._keys = [torch.zeros(shape, device=device, dtype=dtype) for shape in shapes]
        self._values = [torch.zeros(shape, device=device, dtype=dtype) for shape in shapes]
        self._first_row = torch.arange(slots * heads, device=device).view(slots, heads)
        self._text: dict[Caption, list[tuple[Tensor, Tensor]]] = {}
        self._blocks: list[tuple[Caption, Tensor]] = []
        self._members: dict[Caption, list[int]] = {}

    @property
    def bytes(self) -> int:
        """Memory of all keys and values held now."""
        text = [tensor for layers in self._text.values() for pair in layers for tensor in pair]
        return sum(tensor.nbytes for tensor in [*self._keys, *self._values, *text])

    def hold(self, members: dict[Caption, list[int]]) -> None:
        """From now on the slots ``members[caption]`` read that caption; captions with no slot are dropped."""
        if members == self._members:
            return
        self._members = members
        self._text = {caption: layers for caption, layers in self._text.items() if caption in members}
        self._blocks = []
        for caption, slots in members.items():
            for start in range(0, len(slots), BLOCK):
                block = slots[start : start + BLOCK]
                padded = block + block[:1] * (BLOCK - len(block))
                self._blocks.append((caption, torch.tensor(padded, device=self.device)))

    def prefill(self, caption: Caption, masks: Mapping[str, Tensor], slots: Sequence[int]) -> list[Attend]:
        """Each layer's attention for the beginning of one stream, under that kind's dense mask.

        Its text is kept as ``caption``'s, its image tokens in every one of ``slots``.
        """
        self._text[caption] = []
        layers = enumerate(self.kinds)
        return [partial(self._prefill_layer, caption, layer, masks[kind], slots) for layer, kind in layers]

    def decode(self, positions: Tensor) -> list[Attend]:
        """Each layer's attention for one image token in every slot, at raster ``positions`` int64 [S]."""
        steps = {kind: self._step(kind, positions) for kind in self._offsets}
        return [partial(self._decode_layer, layer, steps[kind]) for layer, kind in enumerate(self.kinds)]

    def _prefill_layer(
        self, caption: Caption, layer: int, mask: Tensor, slots: Sequence[int], q: Tensor, k: Tensor, v: Tensor
    ) -> Tensor:
        end, length = self.layout.prefix_length, q.shape[2]
        self._text[caption].append((k[0, :, :end].contiguous(), v[0, :, :end].contiguous()))
        ring = self._ring[self.kinds[layer]]
        kept = torch.arange(max(0, length - end - ring), length - end, device=self.device)
        rows = (self._first_row[list(slots)] * ring)[:, :, None] + kept % ring  # [slots, A, kept]
        for cache, new in ((self._keys, k), (self._values, v)):
            cache[layer][rows] = new[:, :, end + kept]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:length, :length])

    def _decode_layer(self, layer: int, step: Step, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v [S, A, 1, E] -> [S, A, 1, E]: one softmax over the caption's text and the visible image tokens."""
        end, shape = self.layout.prefix_length, (self.slots, self.heads, -1, q.shape[-1])
        for cache, new in ((self._keys, k), (self._values, v)):
            cache[layer].index_copy_(0, step.write, new.flatten(0, 2))
        keys, values = (
            (cache[layer] if step.read is None else cache[layer].index_select(0, step.read)).view(shape)
            for cache in (self._keys, self._values)
        )
        q = q * q.shape[-1] ** -0.5
        to_image = (q @ keys.mT)[:, :, 0].masked_fill(~step.visible, -torch.inf)
        weights = torch.cat([self._to_text(layer, q[:, :, 0]), to_image], dim=-1).softmax(dim=-1)  # [S, A, end + M]
        of_image = weights[:, :, None, end:] @ values
        return of_image + self._of_text(layer, weights[..., :end])[:, :, None]

    def _to_text(self, layer: int, q: Tensor) -> Tensor:
        """q [S, A, E] -> scores of each slot's own text [S, A, end]."""
        scores = q.new_zeros(self.slots, self.heads, self.layout.prefix_length)
        for caption, slots in self._blocks:
            scores[slots] = (q[slots].transpose(0, 1) @ self._text[caption][layer][0].mT).transpose(0, 1)
        return scores

    def _of_text(self, layer: int, weights: Tensor) -> Tensor:
        """Weights [S, A, end] -> the weighed values of each slot's own text [S, A, E]."""
        gathered = weights.new_zeros(self.slots, self.heads, self._keys[layer].shape[-1])
        for caption, slots in self._blocks:
            gathered[slots] = (weights[slots].transpose(0, 1) @ self._text[caption][layer][1]).transpose(0, 1)
        return gathered

    def _step(self, kind: Kind, positions: Tensor) -> Step:
        ring, distances = self._ring[kind], self._offsets[kind]
        first = self._first_row * ring
        write = (first + (positions % ring)[:, None]).flatten()
        if len(distances) == ring:  # every position of the ring is seen, in whatever order, once it has been written
            visible = torch.arange(ring, device=self.device) <= positions[:, None]
            return Step(write, None, visible[:, None])
        seen = positions[:, None] - distances  # [S, M]
        read = first[:, :, None] + (seen % ring)[:, None]
        return Step(write, read.flatten(), (seen >= 0)[:, None])
