"""Feature extractors under a name and a weight hash, because a distance means nothing without them."""

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
"""First digits of the SHA-256 of ``pt_inception-2015-12-05-6726825d.pth``, as every peer names the file."""

PRESETS = {
    "tf": (prepare_tf, "TensorFlow 1 bilinear to 299 px, (x - 128) / 128"),
    "pytorch-fid": (prepare_pytorch_fid, "half-pixel bilinear to 299 px, 2x / 255 - 1"),
}
EFFICIENTNET_SIDE = 224


@dataclass
class ExtractorConfig:
    """Which network makes the features of FID-like figures."""

    weights: str | None = setting(
        None, "the FID Inception's file, .pth or .safetensors; empty: packaged EfficientNet-Lite0"
    )
    preset: str = setting("tf", "resize and scaling before the FID Inception: tf (torch-fidelity) or pytorch-fid")

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"extractor.preset is {self.preset!r}: use one of {', '.join(PRESETS)}.")


@dataclass(frozen=True)
class ExtractorProtocol:
    """What a figure must carry: the network's name, its weights' hash, and how images are prepared."""

    name: str
    weight_hash: str
    preset: str
    resize: str

    def figure(self, metric: str) -> str:
        """A figure's name: ``fid``, ``kid`` or ``is`` only for the FID file, else with the extractor's name.

        ``fd_efficientnet_lite0`` and FID are different quantities and never compared.
        """
        if self.weight_hash.startswith(FID_FILE_HASH):
            return metric
        return f"{'fd' if metric == 'fid' else metric}_{self.name}"


@dataclass(frozen=True)
class ImageFeatures:
    """Features float32 [B, D] and class logits float32 [B, classes] of the same images."""

    features: np.ndarray
    logits: np.ndarray


class FeatureExtractor:
    """Images uint8 [B, H, W, 3] -> :class:`ImageFeatures`, under a protocol."""

    def __init__(self, protocol: ExtractorProtocol, network: nn.Module, prepare: Callable[[Tensor], Tensor]) -> None:
        self.protocol = protocol
        self._network = network
        self._prepare = prepare

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> ImageFeatures:
        device = device_of(self._network)
        prepared = self._prepare(torch.from_numpy(images).to(device).permute(0, 3, 1, 2))
        features, logits = self._network(prepared)
        return ImageFeatures(features.float().cpu().numpy(), logits.float().cpu().numpy())


def extractor_protocol(config: ExtractorConfig) -> ExtractorProtocol:
    """The protocol that :func:`load_extractor` works under, without loading a network.

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
    """The FID Inception where its file is given, else the EfficientNet-Lite0 that a package carries.

    Raises:
        InceptionFileError: the file is missing or is not the FID Inception's.
    """
    if config.weights is None:
        return FeatureExtractor(extractor_protocol(config), _EfficientNet().to(device), _prepare_efficientnet)
    from t2i.metrics.inception import load_inception  # takes seconds, which not every worker has to spend

    network = load_inception(config.weights).to(device)
    return FeatureExtractor(extractor_protocol(config), network, PRESETS[config.preset][0])


class _EfficientNet(nn.Module):
    """Pooled features [B, 1280] and ImageNet logits [B, 1000]."""

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
