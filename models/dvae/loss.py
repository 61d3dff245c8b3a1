"""The evidence lower bound of the dVAE: logit-Laplace likelihood and KL to a uniform prior (paper section 2.1, A.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 0.1


def to_logit_laplace(x: Tensor) -> Tensor:
    """phi: pixels in [0, 1] -> (0.1, 0.9), away from the edges where the density blows up."""
    return (1 - 2 * EPSILON) * x + EPSILON


def from_logit_laplace(x: Tensor) -> Tensor:
    """phi^-1, clamped to [0, 1]."""
    return ((x - EPSILON) / (1 - 2 * EPSILON)).clamp(0, 1)


def logit_laplace_nll(x: Tensor, mu: Tensor, ln_b: Tensor) -> Tensor:
    """-ln f(phi(x) | mu, b) per element, f(x | mu, b) = exp(-|logit(x) - mu| / b) / (2 b x (1 - x))."""
    x = to_logit_laplace(x)
    return (torch.logit(x) - mu).abs() * torch.exp(-ln_b) + ln_b + torch.log(2 * x * (1 - x))


def kl_to_uniform(logits: Tensor) -> Tensor:
    """KL(q || uniform) of un-tempered logits [B, K, h, w], summed over positions: nats per image [B]."""
    log_q = F.log_softmax(logits, dim=1)
    return (log_q.exp() * (log_q + math.log(logits.shape[1]))).sum(dim=(1, 2, 3))


@dataclass(frozen=True)
class ELB:
    """The loss and its two terms, each a scalar in nats per sub-pixel."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor


def evidence_lower_bound(x: Tensor, maps: Tensor, logits: Tensor, beta: float) -> ELB:
    """Negative ELB of images x [B, 3, H, W] in [0, 1] given decoder maps [B, 6, H, W] and encoder logits.

    Everything is divided by 3 H W, so beta weighs the KL as in the paper (where that is 1 / 196 608).
    """
    mu, ln_b = maps.float().chunk(2, dim=1)
    reconstruction = logit_laplace_nll(x, mu, ln_b).mean()
    kl = kl_to_uniform(logits.float()).mean() / x[0].numel()
    return ELB(reconstruction + beta * kl, reconstruction, kl)
