"""One decoding step of a layer's attention: to the image tokens in its ring, and to the text that was gathered before.

On a CPU it is one pass over the keys and values where they lie, in C. Elsewhere, and where there is no C compiler, it
is the same in torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.prior.decoding.kernels import kernels
from models.prior.decoding.partial_attention import merge_partials, partial_attention
from models.prior.decoding.rings import RingStep
from models.prior.decoding.shared_text import TextAttention


def decode_attention(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, step: RingStep, text: TextAttention
) -> Tensor:
    """q, k, v [S, A, 1, E] and rings [S, size, A, E] -> what the queries gather of image and text, [S, A, 1, E].

    ``k`` and ``v`` are written into the rings first.
    """
    if q.device.type == "cpu" and not torch.compiler.is_compiling() and kernels(q.dtype):
        return in_c(q, k, v, keys, values, step, text)
    return in_torch(q, k, v, keys, values, step, text)


def in_torch(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, step: RingStep, text: TextAttention
) -> Tensor:
    """The reference, and what a GPU computes."""
    slots = torch.arange(len(q), device=q.device)
    keys[slots, step.write] = k[:, :, 0]
    values[slots, step.write] = v[:, :, 0]
    seen_keys, seen_values = (step.seen(ring).transpose(1, 2) for ring in (keys, values))
    return merge_partials(partial_attention(q, seen_keys, seen_values, step.bias(q.dtype)), text.by_slot())


def in_c(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, step: RingStep, text: TextAttention) -> Tensor:
    """The same in one pass; q, k and v are rows of one tensor, as a projection to all three leaves them."""
    slots, size, heads, width = keys.shape
    text_out, text_lse = (x.transpose(1, 2).contiguous() for x in text.blocks)  # mostly that is how they lie
    out, library = q.new_empty(slots, heads, 1, width), kernels(q.dtype)
    assert library is not None
    assert q.stride(1) == k.stride(1) == v.stride(1) == width
    library.decode_attention(
        *(x.data_ptr() for x in (q, k, v)),
        q.stride(0),
        *(x.data_ptr() for x in (keys, values, step.write, step.places, text_out, text_lse, text.place, out)),
        *(slots, size, step.places.shape[1], heads, width),
        width**-0.5,
        torch.get_num_threads(),
    )
    return out
