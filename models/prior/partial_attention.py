"""Attention over a part of the keys, and what two parts make together (Dao et al. 2022, section 3.1).

The softmax over the union of two sets of keys is the mean of the softmaxes over each, weighed by their sums of
exponentials. That is exact, so keys that many queries share need not lie beside those that each has for itself.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Part(NamedTuple):
    """What queries gathered from some keys [B, A, P, E], and the log-sum-exp of their scores, float32 [B, A, P]."""

    gathered: Tensor
    log_sum: Tensor


def attend_to_part(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Part:
    """Queries [B, A, P, E] over keys and values [B, A, M, E]; ``bias`` is added to the scores (-inf hides a key)."""
    if q.device.type == "cpu":
        return Part(*torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=bias))
    return attend_to_part_in_steps(q, k, v, bias)


def attend_to_part_in_steps(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Part:
    """The same in plain operations, for devices whose fused attention keeps the sums to itself."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if bias is not None:
        scores = scores + bias
    return Part(scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v, scores.float().logsumexp(dim=-1))


def merge(a: Part, b: Part) -> Tensor:
    """What the queries of both parts gather from all keys, [B, A, P, E]."""
    share = torch.sigmoid(b.log_sum - a.log_sum)[..., None]
    return torch.lerp(a.gathered, b.gathered, share.to(a.gathered.dtype))
