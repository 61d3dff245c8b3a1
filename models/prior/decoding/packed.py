"""Linear layers for decoding on a CPU, where reading the weights takes longer than multiplying by them.

torch re-orders the weight of a plain bf16 layer at every call, which takes a third of a decode step of a few dozen
slots. :class:`PackedLinear` does so once, and computes the same numbers to the bit. :class:`Int8Linear` rounds the
weights to half the bytes, which is faster for up to about four slots (docs/benchmarks.md).
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.library.custom_op("t2i::packed_linear", mutates_args=())
def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None, after: str, algorithm: str) -> Tensor:
    """Multiply by a weight in oneDNN's layout: an operator that torch.compile calls as it is, without tracing it."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, after, [], algorithm)
    return y


@packed_linear.register_fake
def _(x: Tensor, packed: Tensor, bias: Tensor | None, after: str, algorithm: str) -> Tensor:  # noqa: ARG001 (its schema)
    return x.new_empty(*x.shape[:-1], packed.shape[0])


class PackedLinear(nn.Module):
    """A bf16 ``nn.Linear`` with its weight in oneDNN's own layout; with ``gelu`` the tanh GELU is fused to it."""

    def __init__(self, linear: nn.Linear, gelu: bool = False) -> None:
        super().__init__()
        self.bias = linear.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.after = ("gelu", "tanh") if gelu else ("none", "")

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output: bf16 [..., in] -> bf16 [..., out]."""
        after, algorithm = self.after
        if torch.compiler.is_compiling():
            y: Tensor = packed_linear(x, self.packed, self.bias, after, algorithm)
        else:  # without the custom operator's overhead
            y = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, after, [], algorithm)
        return y

    @staticmethod
    def is_supported() -> bool:
        """Return whether this CPU multiplies bf16."""
        is_available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return is_available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Int8Linear(nn.Module):
    """A bf16 ``nn.Linear`` with its weight rounded to int8 [out, in] and one scale for each output."""

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
        """Return the layer's output: bf16 [..., in] -> bf16 [..., out]."""
        y: Tensor = torch.ops.aten._weight_int8pack_mm(x.flatten(0, -2), self.weight, self.scale)
        y = y if self.bias is None else y + self.bias
        y = F.gelu(y, approximate="tanh") if self.gelu else y
        return y.view(*x.shape[:-1], -1)


def pack(module: nn.Module, layer: type[PackedLinear | Int8Linear]) -> None:
    """Replace every ``nn.Linear`` below ``module``, together with a GELU that follows it, by a ``layer``."""
    for (name, child), (next_name, following) in pairwise([*module.named_children(), ("", None)]):
        if isinstance(child, nn.Linear):
            gelu = isinstance(following, nn.GELU)
            setattr(module, name, layer(child, gelu))
            if gelu:
                setattr(module, next_name, nn.Identity())
        elif child is not None:
            pack(child, layer)
