"""Gumbel-max sampling with noise that is a pure function of (seed, candidate, position).

The same request therefore gives the same tokens in any slot, batch, replica or retry (DESIGN: the seed contract).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.hashing import GOLDEN, splitmix64
from models.prior.decoding.kernels import kernels

GROUP = 64
"""Tokens that are weighed together first."""

MIN_TEMPERATURE = 1e-6


def sample(logits: Tensor, keys: Tensor, positions: Tensor, temperatures: Tensor) -> Tensor:
    """Draw one token per row of softmax(logits / t): logits [S, K], int64 [S] x 2, float [S] -> int64 [S].

    argmax(scores + Gumbel noise) is a draw from softmax(scores). Here it is taken twice, first among groups of 64
    tokens by their log-sum-exp, then within the group: the same distribution from K / 64 + 64 random numbers a row
    instead of K, and without a sort. t = 0 is the most likely token. ``keys`` are :func:`noise_keys`.
    """
    logits = F.pad(logits, (0, -logits.shape[-1] % GROUP), value=-torch.inf).unflatten(-1, (-1, GROUP))
    sharpness = temperatures.clamp(min=MIN_TEMPERATURE).reciprocal()
    noise = gumbel_noise(keys, positions, logits.shape[1] + GROUP) * (temperatures > 0)[:, None]
    of_groups, within = noise.split([logits.shape[1], GROUP], dim=-1)
    group = (group_logsumexp(logits, sharpness) + of_groups).argmax(dim=-1)
    scores = logits.gather(1, group[:, None, None].expand(-1, 1, GROUP))[:, 0] * sharpness[:, None]
    return group * GROUP + (scores + within).argmax(dim=-1)


def group_logsumexp(logits: Tensor, sharpness: Tensor) -> Tensor:
    """Log-sum-exp of ``logits * sharpness`` within each group: [S, G, 64] and float32 [S] -> float32 [S, G]."""
    library = kernels(logits.dtype) if logits.device.type == "cpu" else None
    if library is None:
        return (logits * sharpness[:, None, None]).logsumexp(dim=-1)
    logits, out = logits.contiguous(), logits.new_empty(logits.shape[:2], dtype=torch.float32)
    pointers = (x.data_ptr() for x in (logits, sharpness, out))
    library.group_logsumexp(*pointers, *logits.shape, torch.get_num_threads())
    return out


def apply_top_k_top_p(logits: Tensor, temperatures: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
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


def noise_keys(seeds: Tensor, candidates: Tensor) -> Tensor:
    """What the noise of each candidate's whole stream is known by: int64 [S] x 2 -> int64 [S]."""
    return splitmix64(splitmix64(seeds) + candidates)


def gumbel_noise(keys: Tensor, positions: Tensor, size: int) -> Tensor:
    """Counter-based standard Gumbel noise of each key at a position, float32 [S, size]."""
    counter = torch.arange(1, size + 1, device=keys.device)
    bits = splitmix64(splitmix64(keys + positions)[:, None] + counter * GOLDEN)
    uniform = ((bits >> 41) & 0x7FFFFF).float().add(0.5).mul(2**-23)  # exact, and never 0 or 1
    return -torch.log(-torch.log1p(-uniform))
