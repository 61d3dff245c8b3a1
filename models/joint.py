"""The evidence lower bound on ln p(x, y), the likelihood of an image and its caption together (paper equation 1).

    ln p(x, y) >= E_q(z|x) [ln p(x | z) + ln p(y, z)] + H[q(z | x)]

z are image tokens drawn from the dVAE's encoder, p(x | z) its decoder's logit-Laplace, p(y, z) the prior. The bound is
the true one: hard tokens, beta = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.dvae import DVAE
from models.dvae.dvae import gumbel_softmax
from models.dvae.loss import EPSILON, logit_laplace_nll
from models.prior import Prior, token_nats


@dataclass(frozen=True)
class JointELB:
    """The bound's terms in nats per image [B]; ``image_tokens`` and ``text_tokens`` are ln p(z | y) and ln p(y)."""

    reconstruction: Tensor
    image_tokens: Tensor
    text_tokens: Tensor
    entropy: Tensor

    @property
    def total(self) -> Tensor:
        """The bound on ln p(x, y)."""
        return self.reconstruction + self.image_tokens + self.text_tokens + self.entropy


@torch.no_grad()
def joint_elb(dvae: DVAE, prior: Prior, images: Tensor, text: Tensor, generator: torch.Generator) -> JointELB:
    """Images [B, 3, H, W] in [0, 1] and text int64 [B, T] -> the bound, by one draw of z from ``generator``.

    p(x | z) is a density over intensities in [0, 256), evaluated at the 8-bit values themselves.
    """
    logits = dvae.encode_logits(images)
    image_tokens = gumbel_softmax(logits, 1.0, [generator]).argmax(dim=1)
    mu, ln_b = dvae.decoder.from_tokens(image_tokens).float().chunk(2, dim=1)
    nats_of_phi = logit_laplace_nll(images, mu, ln_b).flatten(1).sum(dim=1)
    per_intensity = images[0].numel() * math.log((1 - 2 * EPSILON) / 256)  # d phi / d intensity
    nats = token_nats(prior, text, image_tokens.flatten(1))
    log_q = logits.float().log_softmax(dim=1)
    return JointELB(
        reconstruction=per_intensity - nats_of_phi,
        image_tokens=-nats.image.sum(dim=1),
        text_tokens=-nats.text.sum(dim=1),
        entropy=-(log_q.exp() * log_q).sum(dim=(1, 2, 3)),
    )


def bits_per_dimension(nats: Tensor, dimensions: int) -> Tensor:
    """A bound in nats -> what it costs in bits for each of ``dimensions`` sub-pixels (lower is better)."""
    return -nats / (dimensions * math.log(2))
