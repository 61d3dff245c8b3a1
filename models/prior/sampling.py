"""Gumbel-max sampling with noise that is a pure function of (seed, candidate, position).

The same request therefore gives the same tokens in any slot, batch or replica, and when it is retried.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.hashing import GOLDEN, splitmix64
from models.prior.decoding.kernels import kernels

GROUP_SIZE = 64
"""Tokens in one group of :func:`sample`."""

MIN_TEMPERATURE = 1e-6
"""The lowest temperature that logits are divided by, used in place of 0 so that scores are finite."""


def sample(logits: Tensor, keys: Tensor, positions: Tensor, temperatures: Tensor) -> Tensor:
    """Draw one image token int64 [S] from each row of softmax(logits / temperature), logits [S, K].

    ``keys`` int64 [S] (see :func:`noise_keys`) and ``positions`` int64 [S] determine the noise. A temperature (float32
    [S]) of 0 takes the most likely token.
    """
    # Gumbel-max: for scores s_i = logit_i / temperature and independent standard Gumbel noise g_i,
    #
    #     argmax_i (s_i + g_i)  is distributed as  softmax(s).
    #
    # It holds on two levels. For a group G of tokens let lse_G = ln sum_{i in G} e^{s_i}, and Z = sum_i e^{s_i}. Then
    #
    #     p(i) = p(G) p(i | G) = (e^{lse_G} / Z) (e^{s_i} / e^{lse_G}) = e^{s_i} / Z,
    #
    # so draw the group as argmax_G (lse_G + g_G), and then a token in it as argmax_{i in G} (s_i + g'_i): the same
    # distribution from K / 64 + 64 random numbers a row instead of K.
    padded = F.pad(logits, (0, -logits.shape[-1] % GROUP_SIZE), value=-torch.inf)
    groups = torch.unflatten(padded, -1, (-1, GROUP_SIZE))  # [S, G, 64]
    sharpness = temperatures.clamp(min=MIN_TEMPERATURE).reciprocal()
    noise = gumbel_noise(keys, positions, groups.shape[1] + GROUP_SIZE) * (temperatures > 0)[:, None]
    group_noise, token_noise = torch.split(noise, [groups.shape[1], GROUP_SIZE], dim=-1)
    group = (group_logsumexp(groups, sharpness) + group_noise).argmax(dim=-1)
    scores = groups.gather(1, group[:, None, None].expand(-1, 1, GROUP_SIZE))[:, 0] * sharpness[:, None]
    return group * GROUP_SIZE + (scores + token_noise).argmax(dim=-1)


def group_logsumexp(logits: Tensor, sharpness: Tensor) -> Tensor:
    """Return the log-sum-exp of ``logits * sharpness`` in each group: [S, G, 64] and float32 [S] -> float32 [S, G]."""
    library = kernels(logits.dtype) if logits.device.type == "cpu" else None
    if library is None:
        return (logits * sharpness[:, None, None]).logsumexp(dim=-1)
    logits, out = logits.contiguous(), logits.new_empty(logits.shape[:2], dtype=torch.float32)
    pointers = (x.data_ptr() for x in (logits, sharpness, out))
    library.group_logsumexp(*pointers, *logits.shape, torch.get_num_threads())
    return out


def apply_top_k_top_p(logits: Tensor, temperatures: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Set the logits [S, K] of all but each row's most likely tokens to -inf.

    A row keeps its ``top_k`` (int64 [S], 0: all) most likely tokens, and of those the smallest set whose probability
    under softmax(logits / temperature) over all tokens reaches ``top_p`` (float [S], 1: all). The most likely token is
    always kept.
    """
    # All masks below are in descending order of probability; the last line scatters them back to the tokens' order.
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = (ordered / temperatures.clamp(min=MIN_TEMPERATURE)[:, None]).softmax(dim=-1)
    # A token is kept while those before it do not yet reach top_p: the one that crosses the limit is the last.
    probability_before = probabilities.cumsum(dim=-1) - probabilities
    # At top_p = 1 nothing is cut, though rounding may bring the sum to 1 before the last token.
    beyond_top_p = (probability_before >= top_p[:, None]) & (top_p < 1)[:, None]
    rank = torch.arange(logits.shape[-1], device=logits.device)
    beyond_top_k = rank >= torch.where(top_k > 0, top_k, logits.shape[-1])[:, None]
    dropped = beyond_top_p | beyond_top_k
    dropped[:, 0] = False
    return logits.masked_fill(torch.zeros_like(dropped).scatter(1, order, dropped), -torch.inf)


def noise_keys(seeds: Tensor, candidates: Tensor) -> Tensor:
    """Hash each candidate's seed and number, int64 [S] each, to the key int64 [S] of all its noise."""
    return splitmix64(splitmix64(seeds) + candidates)


def gumbel_noise(keys: Tensor, positions: Tensor, size: int) -> Tensor:
    """Return standard Gumbel noise float32 [S, size] as a pure function of keys and positions, int64 [S] each."""
    counter = torch.arange(1, size + 1, device=keys.device)
    bits = splitmix64(splitmix64(keys + positions)[:, None] + counter * GOLDEN)
    uniform = ((bits >> 41) & 0x7FFFFF).float().add(0.5).mul(2**-23)  # of 23 bits: exact, and never 0 or 1
    return -torch.log(-torch.log1p(-uniform))
