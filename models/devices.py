"""Where models compute."""

from __future__ import annotations

import torch
from torch import nn


def default_device() -> str:
    """The GPU that this process may use, or the CPU where there is none."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's weights."""
    return next(model.parameters()).device
