"""What an Inception takes: its weights file, and images resized and scaled as other tools do it.

The metrics depend on how images are resized and scaled, so each tool's way is a preset of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from models.errors import UserError

SIDE = 299
"""Height and width in pixels of the network's input."""


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation per channel of torchvision's ImageNet networks."""


class WeightsFileError(UserError):
    """A weights file is missing or does not hold its network's tensors."""


def weights_file(path: str | Path) -> Path:
    """Return ``path`` as a Path after a check that it is a file.

    Raises:
        WeightsFileError: there is no such file.
    """
    if not Path(path).is_file():
        raise WeightsFileError(f"extractor.weights names no file ({path}): give a local state dict.")
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


def prepare_clean(images: Tensor) -> Tensor:
    """Prepare images uint8 [B, 3, H, W] as clean-fid does: float32 [B, 3, 299, 299], (x - 128) / 128.

    The resize is PIL's bicubic one, which widens its kernel to shrink without aliasing, on floats that are not rounded.
    """
    channels = images.flatten(0, 1).cpu().numpy().astype(np.float32)  # [3B, H, W]
    x = _resize_by_pil(channels, Image.Resampling.BICUBIC).clamp(0, 255)
    return (x.view(-1, 3, SIDE, SIDE).to(images.device) - 128) / 128


def prepare_dmgan(images: Tensor) -> Tensor:
    """Prepare images uint8 [B, 3, H, W] as DM-GAN's FID code does: float32 [B, 3, 299, 299].

    PIL shrinks them bilinearly to 8-bit pixels. Then a step that would undo ImageNet's normalisation is applied to x in
    [0, 1], which never was normalised.
    """
    pixels = _resize_by_pil(images.permute(0, 2, 3, 1).cpu().numpy(), Image.Resampling.BILINEAR)
    x = pixels.to(images.device).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return x * (std / 0.5) + (mean - 0.5) / 0.5


def _resize_by_pil(pictures: np.ndarray, kernel: Image.Resampling) -> Tensor:
    """Return pictures [B, H, W] or [B, H, W, 3] resized to 299 px one by one, in their own dtype."""
    resized = [Image.fromarray(picture).resize((SIDE, SIDE), kernel) for picture in pictures]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in resized]))


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


@dataclass(frozen=True)
class InceptionPreset:
    """One tool's way to compute FID: how images are prepared, and in which network.

    Attributes:
        prepare: maps images uint8 [B, 3, H, W] to the network's input.
        resize: what that is, in words.
        imagenet: torchvision's ImageNet Inception instead of the FID Inception.
        multiple_of: a set is cut to a multiple of this many images, as a loader that drops its last batch does.
    """

    prepare: Callable[[Tensor], Tensor]
    resize: str
    imagenet: bool = False
    multiple_of: int = 1


INCEPTION_PRESETS = {
    "tf": InceptionPreset(prepare_tf, "TensorFlow 1 bilinear to 299 px, (x - 128) / 128"),
    "pytorch-fid": InceptionPreset(prepare_pytorch_fid, "half-pixel bilinear to 299 px, 2x / 255 - 1"),
    "clean": InceptionPreset(prepare_clean, "PIL bicubic of floats to 299 px, (x - 128) / 128"),
    "dmgan": InceptionPreset(
        prepare_dmgan, "PIL bilinear to 299 px, x / 255 * 2 std + 2 mean - 1 by ImageNet's std and mean", True, 64
    ),
}
"""Presets by name: torch-fidelity's (and the first FID code's), pytorch-fid's, clean-fid's, DM-GAN's."""
