"""One layer's attention in a decode step: over the image tokens in the ring buffers and over the text.

On a CPU it is one pass over the keys and values where they lie, in C. Elsewhere, and where there is no C compiler, the
same is computed by torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.prior.decoding.kernels import has_kernels, kernels
from models.prior.decoding.partial_attention import merge_partials, partial_attention
from models.prior.decoding.rings import RingStep
from models.prior.decoding.shared_text import SharedText


def decode_attention(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, step: RingStep, text: SharedText, layer: int
) -> Tensor:
    """Return what the query of each row of a step gathers from the image tokens and the text of its slot, [S, A, 1, E].

    q, k, v [S, A, 1, E] are of the token that is fed; k and v of all rows are first written into the ring buffers
    ``keys`` and ``values`` [slots, size, A, E] of this ``layer``, as ``step`` says.
    """
    of_layer = text.layers[layer]
    if q.device.type == "cpu" and has_kernels(q.dtype, of_layer.keys.dtype):
        stored = (keys, values, step.write, step.read, *of_layer.tensors, text.readers)
        if torch.compiler.is_compiling():
            attended: Tensor = decode_attention_operator(q, k, v, *stored)
            return attended
        return decode_attention_in_c(q, k, v, *stored)  # without the custom operator's overhead
    return decode_attention_in_torch(q, k, v, keys, values, step, text, layer)


def decode_attention_in_torch(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, step: RingStep, text: SharedText, layer: int
) -> Tensor:
    """Compute :func:`decode_attention` by torch: the reference, and what a GPU runs."""
    step.put(keys, k[:, :, 0])
    step.put(values, v[:, :, 0])
    seen_keys, seen_values = (step.gather(ring).transpose(1, 2) for ring in (keys, values))  # [S, A, M, E]
    image = partial_attention(q, seen_keys, seen_values, step.bias(q.dtype))
    return merge_partials(image, text.attend(layer, q))


def decode_attention_in_c(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    write: Tensor,
    read: Tensor,
    text_keys: Tensor,
    text_values: Tensor,
    key_scales: Tensor,
    value_scales: Tensor,
    readers: Tensor,
) -> Tensor:
    """Compute :func:`decode_attention` by ``kernels.c``; q, k and v are views of one projection's output."""
    (rows, reach), (heads, width, room), length = read.shape, text_keys.shape[1:], text_values.shape[2]
    library, out = kernels(q.dtype, text_keys.dtype), q.new_empty(rows, heads, 1, width)
    text, text_lse = (q.new_empty(rows, heads, size, dtype=torch.float32) for size in (width, 1))
    assert library is not None
    assert q.stride(1) == k.stride(1) == v.stride(1) == width
    library.decode_attention(
        *(x.data_ptr() for x in (q, k, v)),
        q.stride(0),
        *(x.data_ptr() for x in (keys, values, write, read)),
        *(x.data_ptr() for x in (text_keys, text_values, key_scales, value_scales, readers, text, text_lse, out)),
        *(rows, reach, heads, width, room, length),
        width**-0.5,
        torch.get_num_threads(),
    )
    return out


decode_attention_operator = torch.library.custom_op("t2i::decode_attention", decode_attention_in_c, mutates_args=())
"""An operator that torch.compile calls as it is, without tracing it."""


@decode_attention_operator.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, write: Tensor, read: Tensor, *_: Tensor) -> Tensor:  # noqa: ARG001 (its schema)
    return q.new_empty(q.shape)
