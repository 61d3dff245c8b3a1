"""torchao's AdamW with moments of 8 bits (Dettmers et al. 2021, arXiv 2110.02861).

Blocks of 256 numbers share a scale; tensors under 4096 numbers, or not a multiple of 256, keep 32 bits. The
state of a prior of 0.7 M parameters takes 2.1 bytes a parameter instead of 8.0. It saves memory, not time: on one core
of a CPU the first step compiles for 44 s of processor time, and later ones take 45 ms where the fused AdamW takes 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from models.errors import UserError

FIELDS = ("codes", "scale", "qmap")
"""The tensors of an 8-bit moment: codes uint8 of its shape, a scale float32 for each block, and the 256 values, float32
[256], that the codes stand for."""


def build(groups: list[dict[str, Any]], betas: tuple[float, float], epsilon: float) -> torch.optim.Optimizer:
    """Return torchao's AdamW. It compiles its step for every shape of parameter, on a CPU with the C++ compiler.

    Raises:
        UserError: torchao is not installed, or the parameters are sharded, which may cut blocks in two.
    """
    if any(isinstance(parameter, DTensor) for group in groups for parameter in group["params"]):
        raise UserError("task.optimizer.kind is adamw8bit, which sharded parameters do not have: use adamw.")
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise UserError(
            "task.optimizer.kind is adamw8bit but torchao is not installed: pip install 't2i-platform[eightbit]'."
        ) from error
    optimizer: torch.optim.Optimizer = AdamW8bit(groups, betas=betas, eps=epsilon)
    return optimizer


def is_quantized(moment: Tensor) -> bool:
    """Return whether a moment is one of torchao's tensors, which have :data:`FIELDS`."""
    return all(hasattr(moment, field) for field in FIELDS)


def flatten(moments: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return moments as plain tensors in the same memory, 8-bit ones as ``<name>.codes``, ``.scale`` and ``.qmap``."""
    flat: dict[str, Tensor] = {}
    for name, moment in moments.items():
        if is_quantized(moment):
            flat |= {f"{name}.{field}": getattr(moment, field) for field in FIELDS}
        else:
            flat[name] = moment
    return flat
