"""Conversion of images between uint8, as they are stored, and float, as models take them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_uint8(images: Tensor) -> np.ndarray:
    """Convert images float [B, 3, H, W] in [0, 1] to uint8 [B, H, W, 3], rounded to nearest."""
    return images.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def to_float(images: np.ndarray) -> Tensor:
    """Convert images uint8 [B, H, W, 3] to float32 [B, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float().div(255)
