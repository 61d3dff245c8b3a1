"""AdamW with moments of 8 bits (Dettmers et al. 2021, arXiv 2110.02861), as torchao has it.

Blocks of 256 numbers share a scale; tensors under 4096 numbers, or of no whole number of blocks, keep 32 bits. The
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

PARTS = ("codes", "scale", "qmap")
"""What an 8-bit moment is made of: codes uint8 of its shape, scales of blocks float32, their values float32 [256]."""


def build(groups: list[dict[str, Any]], betas: tuple[float, float], epsilon: float) -> torch.optim.Optimizer:
    """torchao's AdamW; it compiles its step for every shape of parameter, and takes a CPU's C++ compiler for that.

    Raises:
        UserError: torchao is not installed, or the parameters are sharded: blocks do not end where shards do.
    """
    if any(isinstance(parameter, DTensor) for group in groups for parameter in group["params"]):
        raise UserError("task.optimizer.kind is adamw8bit, which sharded parameters do not have: use adamw.")
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise UserError(
            "task.optimizer.kind is adamw8bit but torchao is not installed: pip install 't2i-platform[eightbit]'."
        ) from error
    return AdamW8bit(groups, betas=betas, eps=epsilon)


def is_quantized(moment: Tensor) -> bool:
    return all(hasattr(moment, part) for part in PARTS)


def flatten(moments: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Named moments -> plain tensors, the same memory: an 8-bit one becomes ``<name>.codes``, ``.scale``, ``.qmap``."""
    flat: dict[str, Tensor] = {}
    for name, moment in moments.items():
        if is_quantized(moment):
            flat |= {f"{name}.{part}": getattr(moment, part) for part in PARTS}
        else:
            flat[name] = moment
    return flat
