"""Attention over a part of the keys, and what two parts make together (Dao et al. 2022, section 3.1).

The softmax over the union of two sets of keys is the mean of the softmaxes over each, weighed by their sums of
exponentials. That is exact, so keys that many queries share need not lie beside those that each has for itself.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PartialAttention(NamedTuple):
    """What queries gathered from some keys [B, A, P, E], and the log-sum-exp of their scores, float32 [B, A, P]."""

    out: Tensor
    lse: Tensor


def partial_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> PartialAttention:
    """Queries [B, A, P, E] over keys and values [B, A, M, E]; ``bias`` is added to the scores (-inf hides a key)."""
    if q.device.type == "cpu":
        return PartialAttention(*torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=bias))
    return partial_attention_reference(q, k, v, bias)


def partial_attention_reference(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> PartialAttention:
    """The same in plain operations, for devices whose fused attention keeps the sums to itself."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if bias is not None:
        scores = scores + bias
    return PartialAttention(
        scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v, scores.float().logsumexp(dim=-1)
    )


def merge_partials(a: PartialAttention, b: PartialAttention) -> Tensor:
    """What the queries of both parts gather from all keys, [B, A, P, E]."""
    share = torch.sigmoid(b.lse - a.lse)[..., None]
    return torch.lerp(a.out, b.out, share.to(a.out.dtype))
