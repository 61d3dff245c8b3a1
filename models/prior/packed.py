"""Linear layers for decoding on a CPU, where reading the weights costs more than multiplying by them.

A plain bf16 layer has its weight re-ordered at every call, which for a few dozen rows takes a third of a decoding step;
:class:`PackedLinear` does that once, and gives the same numbers to the bit. :class:`Int8Linear` halves the bytes, which
pays up to about four rows (jobs/BENCHMARKS.md), and rounds the weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A bf16 ``nn.Linear`` whose weight is in oneDNN's own layout; with ``gelu`` the tanh GELU follows."""

    def __init__(self, linear: nn.Linear, gelu: bool = False) -> None:
        super().__init__()
        self.bias = linear.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.after = ("gelu", [], "tanh") if gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, *self.after)

    @staticmethod
    def is_supported() -> bool:
        """Whether this CPU multiplies bf16."""
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


class Int8Linear(nn.Module):
    """A bf16 ``nn.Linear`` whose weight is int8 [O, I] with one scale for each output."""

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear, gelu: bool = False) -> None:
        super().__init__()
        exact = linear.weight.detach().float()
        scale = exact.abs().amax(dim=1).clamp(min=1e-12) / 127
        self.register_buffer("weight", (exact / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale.to(linear.weight.dtype))
        self.bias, self.gelu = linear.bias, gelu

    def forward(self, x: Tensor) -> Tensor:
        y = torch.ops.aten._weight_int8pack_mm(x.flatten(0, -2), self.weight, self.scale)
        y = y if self.bias is None else y + self.bias
        return (F.gelu(y, approximate="tanh") if self.gelu else y).unflatten(0, x.shape[:-1])
