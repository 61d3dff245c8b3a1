"""The evidence lower bound of the dVAE: logit-Laplace likelihood and KL to a uniform prior (paper section 2.1, A.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 0.1
"""How far pixels are kept from 0 and 1, where the logit-Laplace density is unbounded (paper appendix A.3)."""


def to_logit_laplace(x: Tensor) -> Tensor:
    """Map pixels in [0, 1] to [0.1, 0.9]: phi(x) = (1 - 2 epsilon) x + epsilon."""
    return (1 - 2 * EPSILON) * x + EPSILON


def from_logit_laplace(x: Tensor) -> Tensor:
    """Map [0.1, 0.9] to pixels in [0, 1], the inverse of :func:`to_logit_laplace`; values outside are clamped."""
    return ((x - EPSILON) / (1 - 2 * EPSILON)).clamp(0, 1)


def logit_laplace_nll(x: Tensor, mu: Tensor, ln_b: Tensor) -> Tensor:
    """Return -ln f(phi(x) | mu, b) in nats, element by element, of pixels x in [0, 1].

    f(x | mu, b) = exp(-|logit(x) - mu| / b) / (2 b x (1 - x)) is the logit-Laplace density (paper appendix A.3).
    """
    x = to_logit_laplace(x)
    return (torch.logit(x) - mu).abs() * torch.exp(-ln_b) + ln_b + torch.log(2 * x * (1 - x))


def kl_to_uniform(logits: Tensor) -> Tensor:
    """Return KL(q || uniform) in nats per image, [B]; q is the softmax of logits [B, K, h, w], without ``tau``."""
    log_q = F.log_softmax(logits, dim=1)
    return (log_q.exp() * (log_q + math.log(logits.shape[1]))).sum(dim=(1, 2, 3))


@dataclass(frozen=True)
class ELB:
    """The negative bound, ``reconstruction`` + beta ``kl``, and these two terms: each 0-d, in nats per sub-pixel."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor


def evidence_lower_bound(x: Tensor, maps: Tensor, logits: Tensor, beta: float) -> ELB:
    """Return the negative ELB of images x [B, 3, H, W] in [0, 1], a mean over the batch.

    ``maps`` [B, 6, H, W] are the decoder's, ``logits`` [B, K, h, w] the encoder's. Both terms are divided by 3 H W, the
    sub-pixels of an image (196 608 in the paper), so that ``beta`` weights the KL as in the paper.
    """
    mu, ln_b = maps.float().chunk(2, dim=1)
    reconstruction = logit_laplace_nll(x, mu, ln_b).mean()
    kl = kl_to_uniform(logits.float()).mean() / x[0].numel()
    return ELB(reconstruction + beta * kl, reconstruction, kl)
