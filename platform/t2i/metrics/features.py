"""Networks whose features of images the metrics compare, each with what identifies it: name, weights, preparation."""

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
"""First digits of the SHA-256 of ``pt_inception-2015-12-05-6726825d.pth``, which pytorch-fid and torch-fidelity use."""

PRESETS = {
    "tf": (prepare_tf, "TensorFlow 1 bilinear to 299 px, (x - 128) / 128"),
    "pytorch-fid": (prepare_pytorch_fid, "half-pixel bilinear to 299 px, 2x / 255 - 1"),
}
"""Ways to prepare images for the FID Inception, the Inception-v3 that defines FID: name -> (function, description)."""

EFFICIENTNET_SIDE = 224
"""Height and width in pixels of EfficientNet-Lite0's input."""


@dataclass
class ExtractorConfig:
    """Which network the distances, precision, recall and inception scores take their features from."""

    weights: str | None = setting(
        None, "weights file of FID's Inception-v3, .pth or .safetensors; empty: use EfficientNet-Lite0", path="read"
    )
    preset: str = setting(
        "tf", "resizing and scaling for that Inception-v3, as torch-fidelity (tf) or pytorch-fid does it"
    )

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"extractor.preset is {self.preset!r}: use one of {', '.join(PRESETS)}.")


@dataclass(frozen=True)
class ExtractorProtocol:
    """What identifies features: the network's name, the SHA-256 of its weights, and how images are prepared.

    Numbers computed from features of different protocols cannot be compared.
    """

    name: str
    weight_hash: str
    preset: str
    resize: str

    def metric_name(self, metric: str) -> str:
        """Return the name under which ``metric`` (``fid``, ``kid`` or ``is``) is reported.

        It is ``metric`` itself only with the FID Inception's weights. Numbers of other extractors are different
        quantities, so the extractor's name is added: ``fd_efficientnet_lite0``, ``kid_efficientnet_lite0``,
        ``is_efficientnet_lite0``.
        """
        if self.weight_hash.startswith(FID_FILE_HASH):
            return metric
        return f"{'fd' if metric == 'fid' else metric}_{self.name}"


@dataclass(frozen=True)
class ImageFeatures:
    """What a network computes of B images: features float32 [B, F] and class logits float32 [B, classes]."""

    features: np.ndarray
    logits: np.ndarray


class FeatureExtractor:
    """A network that computes features of images, and the protocol that identifies these features."""

    def __init__(self, protocol: ExtractorProtocol, network: nn.Module, prepare: Callable[[Tensor], Tensor]) -> None:
        self.protocol = protocol
        self._network = network
        self._prepare = prepare

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> ImageFeatures:
        """Return the features and class logits of images uint8 [B, H, W, 3]."""
        device = device_of(self._network)
        prepared = self._prepare(torch.from_numpy(images).to(device).permute(0, 3, 1, 2))
        features, logits = self._network(prepared)
        return ImageFeatures(features.float().cpu().numpy(), logits.float().cpu().numpy())


def extractor_protocol(config: ExtractorConfig) -> ExtractorProtocol:
    """Return the protocol of the extractor that ``config`` chooses, without loading its network.

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
    """Return the FID Inception if ``config.weights`` names its file, else the packaged EfficientNet-Lite0.

    Raises:
        InceptionFileError: the file is missing or does not hold the FID Inception's weights.
    """
    if config.weights is None:
        return FeatureExtractor(extractor_protocol(config), _EfficientNet().to(device), _prepare_efficientnet)
    from t2i.metrics.inception import load_inception  # imports torchvision, which takes seconds

    network = load_inception(config.weights).to(device)
    return FeatureExtractor(extractor_protocol(config), network, PRESETS[config.preset][0])


class _EfficientNet(nn.Module):
    """Maps prepared images [B, 3, 224, 224] to pooled features [B, 1280] and ImageNet logits [B, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.network: Any = packaged_efficientnet_lite0()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.forward_head(self.network.forward_features(x), pre_logits=True)
        return features, self.network.classifier(features)


def _prepare_efficientnet(images: Tensor) -> Tensor:
    """Resize and normalise images uint8 [B, 3, H, W] for EfficientNet-Lite0: float32 [B, 3, 224, 224]."""
    side = (EFFICIENTNET_SIDE, EFFICIENTNET_SIDE)
    x = F.interpolate(images.float() / 255, size=side, mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in EFFICIENTNET_MEAN_STD)
    return (x - mean) / std
