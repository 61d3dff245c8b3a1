"""The residual block that encoder and decoder are made of, as in OpenAI's released dVAE."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
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

    With ``upsample`` it first doubles the sides of what comes in, to the nearest position. That commutes with a ReLU
    and a 1x1 convolution, so both of those run before it, on a quarter of the positions: ``kernels`` begins with 1.
    """

    def __init__(self, n_in: int, n_out: int, kernels: Sequence[int], n_layers: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.post_gain = 1 / n_layers**2
        widths = [n_in, *[n_out // 4] * (len(kernels) - 1), n_out]
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest") if upsample else nn.Identity()
        layers: list[nn.Module] = []
        for number, (kernel, a, b) in enumerate(zip(kernels, widths, widths[1:], strict=False)):
            relu = nn.ReLU(inplace=number > 0)  # but the first one's input is the identity's too
            layers += [nn.Sequential(relu, self.upsample) if number == 1 else relu, conv(a, b, kernel)]
        self.residual = nn.Sequential(*layers)
        self.identity = nn.Identity() if n_in == n_out else conv(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        identity, residual = self.upsample(self.identity(x)), self.residual(x)
        # Without gradients in place: at full size, fresh memory costs more than the sum.
        out = None if torch.is_grad_enabled() else residual
        return torch.add(identity, residual, alpha=self.post_gain, out=out)
