"""Gumbel-max sampling with noise that is a pure function of (seed, candidate, position).

The same request therefore gives the same tokens in any slot, batch, replica or retry (DESIGN: the seed contract).
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer: splitmix64's increment


def sample(logits: Tensor, seeds: Tensor, candidates: Tensor, positions: Tensor, temperatures: Tensor) -> Tensor:
    """Draw one token per row: logits [S, K], int64 [S] x 3, float [S] -> int64 [S].

    argmax(logits / t + Gumbel noise) is a draw from softmax(logits / t); t = 0 is the most likely token.
    """
    noise = gumbel_noise(seeds, candidates, positions, logits.shape[-1])
    return (logits.float() + temperatures[:, None] * noise).argmax(dim=-1)


def restrict(logits: Tensor, temperatures: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Rule tokens out: logits [S, K] -> the same with -inf but for each row's most likely tokens.

    Of softmax(logits / t) they are the ``top_k`` int64 [S] first (0: all), and of those the fewest whose probability
    among all reaches ``top_p`` float [S] (1: all). The most likely token always stays.
    """
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = (ordered / temperatures.clamp(min=1e-6)[:, None]).softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    place = torch.arange(logits.shape[-1], device=logits.device)
    limit = torch.where(top_k > 0, top_k, logits.shape[-1])[:, None]
    out = (place >= limit) | ((before >= top_p[:, None]) & (top_p < 1)[:, None])
    out[:, 0] = False
    return logits.masked_fill(torch.zeros_like(out).scatter(1, order, out), -torch.inf)


def gumbel_noise(seeds: Tensor, candidates: Tensor, positions: Tensor, size: int) -> Tensor:
    """Counter-based standard Gumbel noise, float32 [S, size]."""
    key = _mix(_mix(_mix(seeds) + candidates) + positions)
    counter = torch.arange(1, size + 1, device=seeds.device)
    bits = _mix(key[:, None] + counter * _GOLDEN)
    uniform = ((bits >> 40) & 0xFFFFFF).double().add(0.5).div(1 << 24)
    return -torch.log(-torch.log(uniform)).float()


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser on int64 (wrapping); a bijection that flips about half of the bits."""
    x = (x ^ _shift(x, 30)) * -4658895280553007687
    x = (x ^ _shift(x, 27)) * -7723592293110705685
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical (zero-filling) right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
