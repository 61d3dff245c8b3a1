"""The KV cache: text is stored once for all candidates of a caption, image tokens only while a mask still sees them.

A decode step has S rows, as many as there are slots. Each feeds one token of the slot that owns it: its own slot, or
another one, of which the step then feeds up to ``window`` tokens at positions that follow each other.

Shapes never change. A candidate's numbers therefore do not depend on the candidates in other slots, and a decode step
can be one compiled graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from models.prior.decoding.decode_attention import decode_attention
from models.prior.decoding.rings import RingBuffer, RingStep
from models.prior.decoding.shared_text import Caption, SharedText
from models.prior.masks import Kind
from models.prior.stream import StreamLayout

AttentionFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""One layer's attention, q, k, v [B, A, L_, E] -> [B, A, L_, E], under its mask and, in decoding, with its cache.

L_ is the number of inputs in this call (see :mod:`models.prior.transformer`).
"""


class KVCache:
    """Keys and values of S slots, each of which decodes one image under one of at most C captions.

    ``text`` stores those of the captions, :class:`RingBuffer` says where those of each slot's image tokens are. A step
    feeds at most ``window`` tokens of one slot.
    """

    def __init__(
        self,
        kinds: Sequence[Kind],
        slots: int,
        captions: int,
        heads: int,
        head_width: int,
        layout: StreamLayout,
        *,
        window: int,
        device: torch.device,
        dtype: torch.dtype,
        text_dtype: torch.dtype,
    ) -> None:
        self.kinds, self.layout, self.device, self.dtype = kinds, layout, device, dtype
        sizes = (len(kinds), slots, captions, heads, layout.prefix_length, head_width)
        self.text = SharedText(*sizes, device=device, dtype=text_dtype)
        self._rings = {kind: RingBuffer(kind, layout.grid, device, window) for kind in dict.fromkeys(kinds)}
        image = [(slots, self._rings[kind].size, heads, head_width) for kind in kinds]
        self._keys = [torch.zeros(shape, device=device, dtype=dtype) for shape in image]
        self._values = [torch.zeros(shape, device=device, dtype=dtype) for shape in image]

    @property
    def bytes(self) -> int:
        """Memory in bytes of all keys and values stored now."""
        return self.text.bytes + sum(tensor.nbytes for tensor in [*self._keys, *self._values])

    def make_static(self) -> None:
        """Tell torch's compiler that keys and values stay where they are, as a CUDA graph needs it."""
        text = [tensor for layer in self.text.layers for tensor in layer.tensors]
        for tensor in [*self._keys, *self._values, *text]:
            torch._dynamo.mark_static_address(tensor)

    def text_prefill_attention(self, caption: Caption, masks: Mapping[str, Tensor]) -> list[AttentionFn]:
        """Return each layer's attention for a pass over one prefix, which stores its keys and values for ``caption``.

        ``masks`` has the dense mask, bool [L, L], of each kind of layer.

        Raises:
            RuntimeError: C captions are stored already.
        """
        row = self.text.allocate(caption)

        def write(layer: int, k: Tensor, v: Tensor) -> None:
            self.text.layers[layer].store(row, k[0], v[0])

        return self._whole_stream(write, masks)

    def image_prefill_attention(self, slots: Sequence[int], masks: Mapping[str, Tensor]) -> list[AttentionFn]:
        """Return each layer's attention for a pass over a prefix and image tokens, stored for each of ``slots``.

        Only the image tokens' keys and values are stored. Those of the text always come from the pass of
        :meth:`text_prefill_attention`, whose shape, and so whose rounding, is the same for every request.
        """
        index, end = torch.tensor(list(slots), device=self.device)[:, None], self.layout.prefix_length

        def write(layer: int, k: Tensor, v: Tensor) -> None:
            length, ring = k.shape[2] - end, self._rings[self.kinds[layer]]
            kept = torch.arange(max(0, length - ring.size), length, device=self.device)  # the last that fit
            for image, new in ((self._keys[layer], k), (self._values[layer], v)):
                image[index, ring.entry(kept)] = new[0, :, end + kept].transpose(0, 1)

        return self._whole_stream(write, masks)

    def decode_step_attention(self, positions: Tensor, owners: Tensor) -> list[AttentionFn]:
        """Return each layer's attention for a step whose rows feed the tokens at raster ``positions``, int64 [S].

        ``owners`` int64 [S] is the slot that each row belongs to.
        """
        steps = {kind: ring.step(positions, owners) for kind, ring in self._rings.items()}
        return [partial(self._decode_layer, layer, steps[kind]) for layer, kind in enumerate(self.kinds)]

    def _whole_stream(
        self, write: Callable[[int, Tensor, Tensor], None], masks: Mapping[str, Tensor]
    ) -> list[AttentionFn]:
        """Return each layer's dense attention, which first hands (layer, keys, values) to ``write``."""

        def attend(layer: int, mask: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            write(layer, k, v)
            length = q.shape[2]
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:length, :length])

        return [partial(attend, layer, masks[kind]) for layer, kind in enumerate(self.kinds)]

    def _decode_layer(self, layer: int, step: RingStep, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from q [S, A, 1, E] to each row's text and visible image tokens, k and v included: [S, A, 1, E]."""
        return decode_attention(q, k, v, self._keys[layer], self._values[layer], step, self.text, layer)
