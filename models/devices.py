"""The device on which models compute."""

from __future__ import annotations

import torch
from torch import nn


def default_device() -> str:
    """Return ``cuda`` if this process can use a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter; the others are on the same one."""
    return next(model.parameters()).device
