"""Attention over some of the keys, and merging it with attention over the others (Dao et al. 2022, section 3.1).

For one query with scores s_i over keys with values v_i, attention over a set X of keys is described by::

    lse_X = ln sum_{i in X} e^{s_i}            out_X = sum_{i in X} e^{s_i - lse_X} v_i

and attention over two disjoint sets together is the mean of both, weighted by their sums of exponentials::

    out = (e^{lse_X} out_X + e^{lse_Y} out_Y) / (e^{lse_X} + e^{lse_Y})

This is exact, so keys that many queries share can be stored once, away from the keys of each query alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PartialAttention(NamedTuple):
    """Attention of R queries over some keys: ``out`` [B, A, R, E] and ``lse`` float32 [B, A, R], as above."""

    out: Tensor
    lse: Tensor


def partial_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> PartialAttention:
    """Attend from q [B, A, R, E] to k, v [B, A, M, E]; ``bias`` is added to the scores (-inf hides a key)."""
    # In plain operations: torch's fused ones do not return the lse.
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if bias is not None:
        scores = scores + bias
    return PartialAttention(
        scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v, scores.float().logsumexp(dim=-1)
    )


def merge_partials(a: PartialAttention, b: PartialAttention) -> Tensor:
    """Return the attention [B, A, R, E] over the keys of both parts, which have no key in common."""
    # The weight of b, e^{lse_b} / (e^{lse_a} + e^{lse_b}), is the sigmoid of lse_b - lse_a, which cannot overflow.
    share = torch.sigmoid(b.lse - a.lse)[..., None]
    return torch.lerp(a.out, b.out, share.to(a.out.dtype))
