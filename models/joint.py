"""The evidence lower bound (ELB) on ln p(x, y), the joint likelihood of an image and its caption (paper equation 1).

    ln p(x, y) >= E_q(z|x) [ln p(x | z) + ln p(y, z)] + H[q(z | x)]

z are image tokens drawn from the dVAE's encoder q, p(x | z) is its decoder's logit-Laplace density, p(y, z) the prior.
Unlike the training loss, this is a true bound: tokens are hard, and beta = 1.
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
    """The bound's terms in nats per image, [B] each.

    ``reconstruction`` is ln p(x | z), ``image_tokens`` ln p(z | y), ``text_tokens`` ln p(y), ``entropy`` H[q(z | x)].
    """

    reconstruction: Tensor
    image_tokens: Tensor
    text_tokens: Tensor
    entropy: Tensor

    @property
    def total(self) -> Tensor:
        """The bound on ln p(x, y) in nats per image, [B]."""
        return self.reconstruction + self.image_tokens + self.text_tokens + self.entropy


@torch.no_grad()
def joint_elb(dvae: DVAE, prior: Prior, images: Tensor, text: Tensor, generator: torch.Generator) -> JointELB:
    """Estimate the bound of images [B, 3, H, W] in [0, 1] and text int64 [B, T] by one draw of z from ``generator``.

    p(x | z) is a density over intensities in [0, 256), evaluated at the 8-bit values.
    """
    logits = dvae.encode_logits(images)
    image_tokens = gumbel_softmax(logits, 1.0, [generator]).argmax(dim=1)
    mu, ln_b = dvae.decoder.from_tokens(image_tokens).float().chunk(2, dim=1)
    nats_of_phi = logit_laplace_nll(images, mu, ln_b).flatten(1).sum(dim=1)
    # The density of intensities is that of phi times d phi / d intensity = (1 - 2 epsilon) / 256 for each sub-pixel.
    per_intensity = images[0].numel() * math.log((1 - 2 * EPSILON) / 256)
    nats = token_nats(prior, text, image_tokens.flatten(1))
    log_q = logits.float().log_softmax(dim=1)
    return JointELB(
        reconstruction=per_intensity - nats_of_phi,
        image_tokens=-nats.image.sum(dim=1),
        text_tokens=-nats.text.sum(dim=1),
        entropy=-(log_q.exp() * log_q).sum(dim=(1, 2, 3)),
    )


def bits_per_dimension(nats: Tensor, dimensions: int) -> Tensor:
    """Convert a bound in nats to bits for each of ``dimensions`` sub-pixels (lower is better)."""
    return -nats / (dimensions * math.log(2))
