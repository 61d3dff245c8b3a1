"""Keys and values for decoding: text once for all candidates of a caption, image tokens only while a mask sees them.

Shapes never change, so a candidate's arithmetic is the same whoever its neighbours are, and so that a step can be one
compiled graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from models.prior.decoding.decode_attention import decode_attention
from models.prior.decoding.rings import Ring, RingStep
from models.prior.decoding.shared_text import Caption, SharedText
from models.prior.masks import Kind
from models.prior.stream import StreamLayout

AttentionFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""q, k, v [B, A, P, E] -> what each query gathers, [B, A, P, E]: one layer's mask and, when decoding, its cache."""


class KVCache:
    """S slots, each a stream of image tokens in the making under one of at most C captions, which ``text`` holds."""

    def __init__(
        self,
        kinds: Sequence[Kind],
        slots: int,
        captions: int,
        heads: int,
        head_width: int,
        layout: StreamLayout,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.kinds, self.layout, self.device, self.dtype = kinds, layout, device, dtype
        sizes = (len(kinds), slots, captions, heads, layout.prefix_length, head_width)
        self.text = SharedText(*sizes, device=device, dtype=dtype)
        self._rings = {kind: Ring(kind, layout.grid, device) for kind in set(kinds)}
        image = [(slots, self._rings[kind].size, heads, head_width) for kind in kinds]
        self._keys = [torch.zeros(shape, device=device, dtype=dtype) for shape in image]
        self._values = [torch.zeros(shape, device=device, dtype=dtype) for shape in image]

    @property
    def bytes(self) -> int:
        """Memory of all keys and values held now."""
        return self.text.bytes + sum(tensor.nbytes for tensor in [*self._keys, *self._values])

    def make_static(self) -> None:
        """Have every step be the same operations on the same memory, as a compiled graph needs it."""
        self.text.static = True
        for tensor in [*self._keys, *self._values, *self.text.keys, *self.text.values]:
            torch._dynamo.mark_static_address(tensor)

    def prefill_text(self, caption: Caption, masks: Mapping[str, Tensor]) -> list[AttentionFn]:
        """Each layer's attention, under its kind's dense mask, for a pass over the prefix that is kept as ``caption``.

        Raises:
            RuntimeError: as many captions as there is room for are held already.
        """
        row = self.text.allocate(caption)

        def write(layer: int, k: Tensor, v: Tensor) -> None:
            self.text.keys[layer][row], self.text.values[layer][row] = k[0], v[0]

        return self._whole_stream(write, masks)

    def prefill_image(self, slots: Sequence[int], masks: Mapping[str, Tensor]) -> list[AttentionFn]:
        """The same for a pass over a prefix and image tokens, of which the latter are kept in all of ``slots``.

        The text that candidates share always comes from :meth:`prefill_text`, whose shape is the same for everybody.
        """
        index, end = torch.tensor(list(slots), device=self.device)[:, None], self.layout.prefix_length

        def write(layer: int, k: Tensor, v: Tensor) -> None:
            length, ring = k.shape[2] - end, self._rings[self.kinds[layer]]
            kept = torch.arange(max(0, length - ring.size), length, device=self.device)
            for image, new in ((self._keys[layer], k), (self._values[layer], v)):
                image[index, ring.place(kept)] = new[0, :, end + kept].transpose(0, 1)

        return self._whole_stream(write, masks)

    def decode(self, positions: Tensor) -> list[AttentionFn]:
        """Each layer's attention for one image token in every slot, at raster ``positions`` int64 [S]."""
        steps = {kind: ring.step(positions) for kind, ring in self._rings.items()}
        return [partial(self._decode_layer, layer, steps[kind]) for layer, kind in enumerate(self.kinds)]

    def _whole_stream(
        self, write: Callable[[int, Tensor, Tensor], None], masks: Mapping[str, Tensor]
    ) -> list[AttentionFn]:
        def attend(layer: int, mask: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            write(layer, k, v)
            length = q.shape[2]
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:length, :length])

        return [partial(attend, layer, masks[kind]) for layer, kind in enumerate(self.kinds)]

    def _decode_layer(self, layer: int, step: RingStep, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v [S, A, 1, E] -> [S, A, 1, E]: one softmax over the caption's text and the visible image tokens."""
        text = self.text.attend(layer, q)
        return decode_attention(q, k, v, self._keys[layer], self._values[layer], step, text)
