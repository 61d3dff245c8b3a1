"""One layer's attention in a decode step: over the image tokens in the ring buffers, merged with that over the text.

On a CPU it is one pass over the keys and values where they lie, in C. Elsewhere, and where there is no C compiler, the
same is computed by torch.
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
    """Return what the query of each row of a step gathers from the image tokens and the text of its slot, [S, A, 1, E].

    q, k, v [S, A, 1, E] are of the token that is fed; k and v of all rows are first written into the ring buffers
    ``keys`` and ``values`` [S, size, A, E], as ``step`` says. ``text`` is the attention to the text alone.
    """
    if q.device.type == "cpu" and not torch.compiler.is_compiling() and kernels(q.dtype):
        return decode_attention_in_c(q, k, v, keys, values, step, text)
    return decode_attention_in_torch(q, k, v, keys, values, step, text)


def decode_attention_in_torch(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, step: RingStep, text: TextAttention
) -> Tensor:
    """Compute :func:`decode_attention` by torch: the reference, and what a GPU runs."""
    step.put(keys, k[:, :, 0])
    step.put(values, v[:, :, 0])
    seen_keys, seen_values = (step.gather(ring).transpose(1, 2) for ring in (keys, values))  # [S, A, M, E]
    image = partial_attention(q, seen_keys, seen_values, step.bias(q.dtype))
    return merge_partials(image, text.in_row_order())


def decode_attention_in_c(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, step: RingStep, text: TextAttention
) -> Tensor:
    """Compute :func:`decode_attention` by ``kernels.c``; q, k and v are views of one projection's output."""
    (rows, reach), (heads, width) = step.read.shape, keys.shape[2:]
    text_out, text_lse = (x.transpose(1, 2).contiguous() for x in text.blocks)  # rarely a copy: torch leaves it so
    out, library = q.new_empty(rows, heads, 1, width), kernels(q.dtype)
    assert library is not None
    assert q.stride(1) == k.stride(1) == v.stride(1) == width
    library.decode_attention(
        *(x.data_ptr() for x in (q, k, v)),
        q.stride(0),
        *(x.data_ptr() for x in (keys, values, step.write, step.read, text_out, text_lse, text.place_of_row, out)),
        *(rows, reach, heads, width),
        width**-0.5,
        torch.get_num_threads(),
    )
    return out
