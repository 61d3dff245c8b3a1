"""What the FID Inception takes: its weights file, and images resized and scaled as other tools do it.

The metrics depend on how images are resized and scaled, so each tool's way is a preset of its own.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import UserError

SIDE = 299
"""Height and width in pixels of the network's input."""


class InceptionFileError(UserError):
    """The weights file is missing or does not hold the FID Inception's tensors."""


def weights_file(path: str | Path) -> Path:
    """Return ``path`` as a Path after a check that it is a file.

    Raises:
        InceptionFileError: there is no such file.
    """
    if not Path(path).is_file():
        raise InceptionFileError(f"extractor.weights names no file ({path}): give the FID Inception's state dict.")
    return Path(path)


def prepare_tf(images: Tensor) -> Tensor:
    """Prepare images uint8 [B, 3, H, W] as torch-fidelity does: float32 [B, 3, 299, 299], (x - 128) / 128.

    The resize is TensorFlow 1's bilinear one, which the original FID code used.
    """
    x = _interpolate_tf1(_interpolate_tf1(images.float(), dim=2), dim=3)
    return (x - 128) / 128


def prepare_pytorch_fid(images: Tensor) -> Tensor:
    """Prepare images uint8 [B, 3, H, W] as pytorch-fid does: float32 [B, 3, 299, 299] in [-1, 1]."""
    x = F.interpolate(images.float() / 255, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return 2 * x - 1


def _interpolate_tf1(x: Tensor, dim: int) -> Tensor:
    """Resize dimension ``dim`` to 299 as TensorFlow 1 did: linearly, without antialiasing."""
    # Where output pixels lie among the input's, drawn for 4 -> 8:
    #
    #     input            0       1       2       3
    #     TensorFlow 1     0   1   2   3   4   5   6   7     i * in / out: the first pixels coincide,
    #                                                        the last ones lie beyond the input and repeat its last
    #     half-pixel     0   1   2   3   4   5   6   7       (i + 0.5) * in / out - 0.5: centred (torch, TensorFlow 2)
    #
    # The shift between the two changes the features, so torch's interpolate cannot stand in.
    size = x.shape[dim]
    positions = torch.arange(SIDE, device=x.device) * (size / SIDE)
    low = positions.floor().long()
    high = (low + 1).clamp(max=size - 1)
    weight = (positions - low).view(-1, *[1] * (x.ndim - 1 - dim))  # broadcasts along dim
    return torch.lerp(x.index_select(dim, low), x.index_select(dim, high), weight.to(x.dtype))
