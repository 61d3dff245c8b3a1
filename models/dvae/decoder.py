"""The decoder p(x | z): from image tokens, hard or relaxed, to the logit-Laplace distribution (paper appendix A.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dvae.blocks import ResidualBlock, conv

KERNEL_SIZES = (1, 3, 3, 3)
"""Kernel sizes of the four convolutions in each residual block."""


class Decoder(nn.Module):
    """1x1 conv from the codebook, groups of residual blocks (half the width, twice the sides each), 1x1 conv to 6 maps.

    The maps are mu (0 to 2) and ln b (3 to 5) of the logit-Laplace distribution of red, green and blue.
    """

    def __init__(self, width: int, groups: int, blocks_per_group: int, codebook_size: int, input_width: int) -> None:
        super().__init__()
        n_layers = groups * blocks_per_group
        widths = [width * 2**group for group in reversed(range(groups))]
        self.input = conv(codebook_size, input_width, 1)
        layers: list[nn.Module] = []
        n_in = input_width
        for group, n_out in enumerate(widths):
            if group:
                layers.append(
                    nn.Identity()
                )  # keeps the numbers of the released layers: there an up-sampling, here the next block's
            for block in range(blocks_per_group):
                layers.append(ResidualBlock(n_in, n_out, KERNEL_SIZES, n_layers, upsample=group > 0 and block == 0))
                n_in = n_out
        self.trunk = nn.Sequential(*layers, nn.ReLU(inplace=True))
        self.maps = conv(n_in, 6, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Return the maps [B, 6, H, W] of relaxed codes [B, K, h, w]; the first convolution is computed in float32."""
        with torch.autocast(z.device.type, enabled=False):
            x = self.input(z.float())
        return self._maps(x)

    def from_tokens(self, image_tokens: Tensor) -> Tensor:
        """Return the maps [B, 6, H, W] of image tokens int64 [B, h, w]."""
        # A one-hot vector through a 1x1 conv is a column of its weight: look it up instead of multiplying by zeros.
        assert self.input.bias is not None
        x = F.embedding(image_tokens, self.input.weight[:, :, 0, 0].T) + self.input.bias
        return self._maps(x.permute(0, 3, 1, 2))

    def _maps(self, x: Tensor) -> Tensor:
        maps: Tensor = self.maps(self.trunk(x.to(self.maps.weight.dtype)))
        return maps

    def for_inference(self, dtype: torch.dtype) -> None:
        """Compute in ``dtype``, channels last; the first convolution stays in float32, as in the released code."""
        self.to(memory_format=torch.channels_last)
        self.trunk.to(dtype)
        self.maps.to(dtype)
