"""What the FID Inception takes: its file, and images as each peer prepares them.

Figures depend on how images are resized and scaled, so each peer's way is a preset of its own.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import UserError

SIDE = 299


class InceptionFileError(UserError):
    """The weights file is not the FID Inception's state dict."""


def weights_file(path: str | Path) -> Path:
    """The path itself, of a file that exists.

    Raises:
        InceptionFileError: there is no such file.
    """
    if not Path(path).is_file():
        raise InceptionFileError(f"extractor.weights names no file ({path}): give the FID Inception's state dict.")
    return Path(path)


def prepare_tf(images: Tensor) -> Tensor:
    """Preset ``tf`` (torch-fidelity): uint8 [B, 3, H, W] by TensorFlow 1's bilinear, then (x - 128) / 128.

    TensorFlow 1 put output pixel i at i * in / out, without the half-pixel shift and without antialiasing.
    """
    x = _interpolate_tf1(_interpolate_tf1(images.float(), dim=2), dim=3)
    return (x - 128) / 128


def prepare_pytorch_fid(images: Tensor) -> Tensor:
    """Preset ``pytorch-fid``: half-pixel bilinear of x / 255, then 2x - 1."""
    x = F.interpolate(images.float() / 255, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return 2 * x - 1


def _interpolate_tf1(x: Tensor, dim: int) -> Tensor:
    """Linear interpolation of one dimension to 299."""
    size = x.shape[dim]
    places = torch.arange(SIDE, device=x.device) * (size / SIDE)
    low = places.floor().long()
    high = (low + 1).clamp(max=size - 1)
    weight = (places - low).view(-1, *[1] * (x.ndim - 1 - dim))
    return torch.lerp(x.index_select(dim, low), x.index_select(dim, high), weight.to(x.dtype))
