"""The residual block that encoder and decoder are made of, as in OpenAI's released dVAE."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn


def conv(n_in: int, n_out: int, kernel: int) -> nn.Conv2d:
    """A same-size convolution, initialised as the released code does: N(0, 1/sqrt(fan_in)), bias 0."""
    layer = nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2)
    nn.init.normal_(layer.weight, std=1 / math.sqrt(n_in * kernel * kernel))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """``identity(x) + post_gain * residual(x)`` with four (ReLU, conv) pairs of hidden width n_out / 4.

    The small ``post_gain`` = 1 / n_layers^2 is one of the three things the paper calls important for stability.
    """

    def __init__(self, n_in: int, n_out: int, kernels: Sequence[int], n_layers: int) -> None:
        super().__init__()
        self.post_gain = 1 / n_layers**2
        widths = [n_in, *[n_out // 4] * (len(kernels) - 1), n_out]
        layers: list[nn.Module] = []
        for kernel, a, b in zip(kernels, widths, widths[1:], strict=False):
            layers += [nn.ReLU(), conv(a, b, kernel)]
        self.residual = nn.Sequential(*layers)
        self.identity = nn.Identity() if n_in == n_out else conv(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.identity(x) + self.post_gain * self.residual(x)
