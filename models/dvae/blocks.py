"""The residual block that encoder and decoder are made of, as in OpenAI's released dVAE."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def conv(n_in: int, n_out: int, kernel: int) -> nn.Conv2d:
    """Return a same-size convolution, initialised as in the released code: weight N(0, 1/sqrt(fan_in)), bias 0."""
    layer = nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2)
    nn.init.normal_(layer.weight, std=1 / math.sqrt(n_in * kernel * kernel))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """``identity(x) + post_gain * residual(x)``, where residual is four (ReLU, conv) pairs of hidden width n_out / 4.

    The paper calls the small ``post_gain`` = 1 / n_layers^2 important for stability (section 2.1). ``kernels`` are the
    sizes of the four convolutions. With ``upsample`` the block's input is first doubled in height and width, by
    nearest-neighbour interpolation; ``kernels`` then has to begin with 1.
    """

    def __init__(self, n_in: int, n_out: int, kernels: Sequence[int], n_layers: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.post_gain = 1 / n_layers**2
        widths = [n_in, *[n_out // 4] * (len(kernels) - 1), n_out]
        # Nearest-neighbour up-sampling copies each position's vector to four, and a ReLU and a 1x1 convolution treat
        # each position alone. So relu(up(x)) = up(relu(x)) and conv1x1(up(x)) = up(conv1x1(x)): the residual's first
        # ReLU and convolution, and the identity's 1x1 convolution, run before it, on a quarter of the positions:
        #
        #     residual:  relu - conv1x1 - relu - UP - conv3x3 - relu - conv3x3 - relu - conv3x3
        #     identity:  conv1x1 - UP
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest") if upsample else nn.Identity()
        layers: list[nn.Module] = []
        for number, (kernel, a, b) in enumerate(zip(kernels, widths, widths[1:], strict=False)):
            relu = nn.ReLU(inplace=number > 0)  # not the first one: its input is the identity's, too
            layers += [nn.Sequential(relu, self.upsample) if number == 1 else relu, conv(a, b, kernel)]
        self.residual = nn.Sequential(*layers)
        self.identity = nn.Identity() if n_in == n_out else conv(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output: [B, n_in, h, w] -> [B, n_out, h, w], or 2 h and 2 w if it up-samples."""
        identity, residual = self.upsample(self.identity(x)), self.residual(x)
        # Without gradients the sum is written over the residual: at full size, allocating costs more than adding.
        out = None if torch.is_grad_enabled() else residual
        return torch.add(identity, residual, alpha=self.post_gain, out=out)
