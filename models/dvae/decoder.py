"""p(x | z): a grid of image tokens (hard or relaxed) to the six maps of the logit-Laplace (paper appendix A.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dvae.blocks import ResidualBlock, conv

KERNELS = (1, 3, 3, 3)


class Decoder(nn.Module):
    """1x1 conv from the codebook, groups that halve in width and double in size, 1x1 conv to 6 maps."""

    def __init__(self, width: int, groups: int, blocks_per_group: int, codebook_size: int, input_width: int) -> None:
        super().__init__()
        n_layers = groups * blocks_per_group
        widths = [width * 2**group for group in reversed(range(groups))]
        self.input = conv(codebook_size, input_width, 1)
        layers: list[nn.Module] = []
        n_in = input_width
        for group, n_out in enumerate(widths):
            for _ in range(blocks_per_group):
                layers.append(ResidualBlock(n_in, n_out, KERNELS, n_layers))
                n_in = n_out
            if group < groups - 1:
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
        self.trunk = nn.Sequential(*layers, nn.ReLU())
        self.maps = conv(n_in, 6, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Relaxed codes [B, K, h, w] -> maps [B, 6, H, W]: mu in 0-2, ln b in 3-5."""
        with torch.autocast(z.device.type, enabled=False):
            x = self.input(z.float())
        return self.maps(self.trunk(x))

    def from_tokens(self, image_tokens: Tensor) -> Tensor:
        """Image tokens int64 [B, h, w] -> maps [B, 6, H, W].

        A one-hot vector through a 1x1 conv is a row of its weight: look it up instead of multiplying by zeros.
        """
        assert self.input.bias is not None
        x = F.embedding(image_tokens, self.input.weight[:, :, 0, 0].T) + self.input.bias
        return self.maps(self.trunk(x.permute(0, 3, 1, 2).contiguous()))
