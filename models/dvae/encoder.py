"""The encoder q(z | x): from an image to logits over the codebook at every grid position (paper appendix A.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.dvae.blocks import ResidualBlock, conv

KERNEL_SIZES = (3, 3, 3, 1)
"""Kernel sizes of the four convolutions in each residual block."""


class Encoder(nn.Module):
    """7x7 conv, groups of residual blocks (twice the width, half the sides each), 1x1 conv to the codebook."""

    def __init__(self, width: int, groups: int, blocks_per_group: int, codebook_size: int) -> None:
        super().__init__()
        n_layers = groups * blocks_per_group
        widths = [width * 2**group for group in range(groups)]
        layers: list[nn.Module] = [conv(3, width, 7)]
        n_in = width
        for group, n_out in enumerate(widths):
            for _ in range(blocks_per_group):
                layers.append(ResidualBlock(n_in, n_out, KERNEL_SIZES, n_layers))
                n_in = n_out
            if group < groups - 1:
                layers.append(nn.MaxPool2d(2))
        self.trunk = nn.Sequential(*layers, nn.ReLU(inplace=True))
        self.logits = conv(n_in, codebook_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits float32 [B, K, h, w] of pixels [B, 3, H, W] (see :func:`models.dvae.loss.to_logit_laplace`).

        The last convolution is computed in float32, as the paper does next to the relaxation.
        """
        x = self.trunk(x.to(next(self.trunk.parameters()).dtype))
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = self.logits(x.float())
        return logits

    def for_inference(self, dtype: torch.dtype) -> None:
        """Compute in ``dtype``, channels last; the last convolution stays in float32, since tokens are its argmax."""
        self.to(memory_format=torch.channels_last)
        self.trunk.to(dtype)
