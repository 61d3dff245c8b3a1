"""Networks that turn images into features, each with the name, weight hash and preparation that its metrics need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.devices import device_of
from models.features import EFFICIENTNET_MEAN_STD, efficientnet_lite0_file, packaged_efficientnet_lite0
from models.manifest import file_hash
from models.settings import setting
from t2i.metrics.inception_input import prepare_pytorch_fid, prepare_tf, weights_file

FID_FILE_HASH = "6726825d"
"""How the SHA-256 of ``pt_inception-2015-12-05-6726825d.pth`` begins; pytorch-fid and torch-fidelity use that file."""

PRESETS = {
    "tf": (prepare_tf, "TensorFlow 1 bilinear to 299 px, (x - 128) / 128"),
    "pytorch-fid": (prepare_pytorch_fid, "half-pixel bilinear to 299 px, 2x / 255 - 1"),
}
"""Ways to prepare images for the FID Inception: name -> (function, description)."""

EFFICIENTNET_SIDE = 224
"""Height and width in pixels of EfficientNet-Lite0's input."""


@dataclass
class ExtractorConfig:
    """Which network the distances, precision, recall and inception scores take their features from."""

    weights: str | None = setting(
        None, "the FID Inception's file, .pth or .safetensors; empty: packaged EfficientNet-Lite0"
    )
    preset: str = setting("tf", "resize and scaling before the FID Inception: tf (torch-fidelity) or pytorch-fid")

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"extractor.preset is {self.preset!r}: use one of {', '.join(PRESETS)}.")


@dataclass(frozen=True)
class ExtractorProtocol:
    """What identifies features: the network's name, the SHA-256 of its weights, and how images are prepared.

    Numbers computed from features of different protocols do not compare.
    """

    name: str
    weight_hash: str
    preset: str
    resize: str

    def metric_name(self, metric: str) -> str:
        """Name under which ``metric`` (``fid``, ``kid`` or ``is``) is reported.

        The bare name is kept for the FID Inception's own weights. Other extractors' numbers are different quantities
        and get the extractor's name: ``fd_efficientnet_lite0``, ``kid_efficientnet_lite0``, ``is_efficientnet_lite0``.
        """
        if self.weight_hash.startswith(FID_FILE_HASH):
            return metric
        return f"{'fd' if metric == 'fid' else metric}_{self.name}"


@dataclass(frozen=True)
class ImageFeatures:
    """Features float32 [B, F] and class logits float32 [B, classes] of the same images."""

    features: np.ndarray
    logits: np.ndarray


class FeatureExtractor:
    """A network that describes images by features, under a protocol."""

    def __init__(self, protocol: ExtractorProtocol, network: nn.Module, prepare: Callable[[Tensor], Tensor]) -> None:
        self.protocol = protocol
        self._network = network
        self._prepare = prepare

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> ImageFeatures:
        """Features and logits of images uint8 [B, H, W, 3]."""
        device = device_of(self._network)
        prepared = self._prepare(torch.from_numpy(images).to(device).permute(0, 3, 1, 2))
        features, logits = self._network(prepared)
        return ImageFeatures(features.float().cpu().numpy(), logits.float().cpu().numpy())


def extractor_protocol(config: ExtractorConfig) -> ExtractorProtocol:
    """Protocol of the extractor that :func:`load_extractor` returns, without loading a network.

    Raises:
        InceptionFileError: the weights file is missing.
    """
    if config.weights is None:
        resize = f"antialiased bilinear to {EFFICIENTNET_SIDE} px, 2x / 255 - 1"
        return ExtractorProtocol("efficientnet_lite0", file_hash(efficientnet_lite0_file()), "efficientnet", resize)
    return ExtractorProtocol(
        "inception_v3", file_hash(weights_file(config.weights)), config.preset, PRESETS[config.preset][1]
    )


def load_extractor(config: ExtractorConfig, device: str = "cpu") -> FeatureExtractor:
    """Load the FID Inception if ``config.weights`` names its file, else the packaged EfficientNet-Lite0.

    Raises:
        InceptionFileError: the file is missing or is not the FID Inception's.
    """
    if config.weights is None:
        return FeatureExtractor(extractor_protocol(config), _EfficientNet().to(device), _prepare_efficientnet)
    from t2i.metrics.inception import load_inception  # imports torchvision, which takes seconds

    network = load_inception(config.weights).to(device)
    return FeatureExtractor(extractor_protocol(config), network, PRESETS[config.preset][0])


class _EfficientNet(nn.Module):
    """Prepared images [B, 3, 224, 224] -> pooled features [B, 1280] and ImageNet logits [B, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.network: Any = packaged_efficientnet_lite0()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.forward_head(self.network.forward_features(x), pre_logits=True)
        return features, self.network.classifier(features)


def _prepare_efficientnet(images: Tensor) -> Tensor:
    side = (EFFICIENTNET_SIDE, EFFICIENTNET_SIDE)
    x = F.interpolate(images.float() / 255, size=side, mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in EFFICIENTNET_MEAN_STD)
    return (x - mean) / std
