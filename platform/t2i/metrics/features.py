"""Networks whose features of images the metrics compare, each with what identifies it: name, weights, preparation."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.devices import device_of
from models.errors import UserError
from models.features import EFFICIENTNET_MEAN_STD, efficientnet_lite0_file, packaged_efficientnet_lite0
from models.manifest import file_hash
from models.settings import setting
from t2i.metrics.encoders import OPENCLIP, TIMM, load_encoder, preparation
from t2i.metrics.inception_input import INCEPTION_PRESETS, weights_file

FID_FILE_HASH = "6726825d"
"""First digits of the SHA-256 of ``pt_inception-2015-12-05-6726825d.pth``, which pytorch-fid and torch-fidelity use."""

INCEPTION, EFFICIENTNET = "inception", "efficientnet_lite0"
"""Names of the networks that are known by themselves; others are of timm or open_clip."""

EFFICIENTNET_SIDE = 224
"""Height and width in pixels of EfficientNet-Lite0's input."""

EFFICIENTNET_WIDTH = 1280
"""Features of an image by EfficientNet-Lite0."""


@dataclass
class ExtractorConfig:
    """Which network the distances, precision, recall and inception scores take their features from."""

    name: str | None = setting(
        None,
        "inception, efficientnet_lite0, timm/NAME (timm/vit_large_patch14_dinov2.lvd142m) or openclip/NAME[:TAG]"
        " (openclip/ViT-L-14:openai); empty: the Inception if weights are named, else EfficientNet-Lite0",
    )
    weights: str | None = setting(
        None, "local file of the network's weights, .pth or .safetensors; EfficientNet-Lite0 has its own", path="read"
    )
    preset: str = setting(
        "tf",
        "resizing, scaling and Inception as of torch-fidelity (tf), pytorch-fid, clean-fid (clean) or DM-GAN (dmgan,"
        " which takes torchvision's ImageNet weights)",
    )
    score_weights: str | None = setting(
        None, "file of FID's Inception for the inception score beside dmgan's features", path="read"
    )
    side: int | None = setting(
        None, "pixels to which images are resized for timm/ and openclip/; empty: the network's own", at_least=1
    )
    batch: int = setting(32, "images whose features are computed at once; fewer are filled up", at_least=1)

    def __post_init__(self) -> None:
        network, named = self.network, self.network.startswith((TIMM, OPENCLIP))
        if self.preset not in INCEPTION_PRESETS:
            raise UserError(f"extractor.preset is {self.preset!r}: use one of {', '.join(INCEPTION_PRESETS)}.")
        if network not in (INCEPTION, EFFICIENTNET) and not named:
            known = f"{INCEPTION}, {EFFICIENTNET}, {TIMM}NAME or {OPENCLIP}NAME"
            raise UserError(f"extractor.name is {network!r}: use {known}.")
        if network == EFFICIENTNET and self.weights:
            raise UserError(f"extractor.weights is not for {network}, which has its own: leave it empty.")
        if network != EFFICIENTNET and not self.weights:
            raise UserError(f"extractor.weights is empty, and nothing is downloaded: name a local file of {network}.")
        if self.preset != "tf" and network != INCEPTION:
            raise UserError(f"extractor.preset is for the Inception, not {network}: leave it out.")
        if self.score_weights and self.preset != "dmgan":
            raise UserError("extractor.score_weights is for extractor.preset=dmgan only: leave it out.")
        if self.side and not named:
            raise UserError(f"extractor.side is for {TIMM} and {OPENCLIP} networks, not {network}: leave it out.")

    @property
    def network(self) -> str:
        """Return the name of the network, found by the weights where none is given."""
        return self.name or (EFFICIENTNET if self.weights is None else INCEPTION)


@dataclass(frozen=True)
class ExtractorProtocol:
    """What identifies features: the network's name, the SHA-256 of its weights, and how images are prepared.

    Numbers computed from features of different protocols cannot be compared. ``logits_hash`` is that of the network
    whose logits are used; a set of images is cut to a multiple of ``multiple_of``.
    """

    name: str
    weight_hash: str
    preset: str
    resize: str
    logits_hash: str | None = None
    multiple_of: int = 1

    @property
    def is_fid(self) -> bool:
        """Whether the features are the FID Inception's."""
        return self.metric_name("fid") == "fid"

    def metric_name(self, metric: str) -> str:
        """Return the name under which ``metric`` (``fid``, ``kid``, ``is``, ...) is reported.

        It is ``metric`` itself only with the FID Inception's weights. Numbers of other extractors are different
        quantities, so the extractor's name is added: ``fd_efficientnet_lite0``, ``kid_efficientnet_lite0``,
        ``is_efficientnet_lite0``.
        """
        weights = self.logits_hash if metric.startswith("is") and self.logits_hash else self.weight_hash
        if weights.startswith(FID_FILE_HASH):
            return metric
        return f"{re.sub('^fid', 'fd', metric)}_{self.name}"


@dataclass(frozen=True)
class ImageFeatures:
    """What a network computes of B images: features float32 [B, F] and class logits float32 [B, classes].

    A network without a classifier has no classes.
    """

    features: np.ndarray
    logits: np.ndarray


@dataclass(frozen=True)
class Network:
    """A module that maps prepared images to features [B, ``width``] and logits, and the function that prepares them."""

    module: nn.Module
    prepare: Callable[[Tensor], Tensor]
    width: int


class FeatureExtractor:
    """A network that computes features of images, and the protocol that identifies these features.

    Images are computed in batches of exactly ``batch``, the last one filled up with black ones: the arithmetic of one
    image, and so the last bits of its features, then do not depend on how many others are computed with it.
    """

    def __init__(self, protocol: ExtractorProtocol, network: Network, batch: int = 32) -> None:
        self.protocol = protocol
        self.batch = batch
        self._network = network

    @property
    def dimension(self) -> int:
        """Number of features of an image."""
        return self._network.width

    def __call__(self, images: np.ndarray) -> ImageFeatures:
        """Return the features and class logits of images uint8 [n, H, W, 3], n >= 1."""
        starts = range(0, len(images), self.batch)
        features, logits = zip(*(self._filled(images[start : start + self.batch]) for start in starts), strict=True)
        return ImageFeatures(np.concatenate(features), np.concatenate(logits))

    @torch.inference_mode()
    def _filled(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the features and logits of at most ``batch`` images, computed as a whole batch."""
        whole = np.zeros((self.batch, *images.shape[1:]), np.uint8)
        whole[: len(images)] = images
        pixels = torch.from_numpy(whole).to(device_of(self._network.module)).permute(0, 3, 1, 2)
        features, logits = self._network.module(self._network.prepare(pixels))
        return _rows(features, len(images)), _rows(logits, len(images))


def _rows(values: Tensor, count: int) -> np.ndarray:
    rows: np.ndarray = values[:count].float().cpu().numpy()
    return rows


def extractor_protocol(config: ExtractorConfig) -> ExtractorProtocol:
    """Return the protocol of the extractor that ``config`` chooses, without loading its network.

    Raises:
        WeightsFileError: a weights file is missing.
        UserError: timm or open_clip has no such network.
    """
    if config.weights is None:
        resize = f"antialiased bilinear to {EFFICIENTNET_SIDE} px, 2x / 255 - 1"
        return ExtractorProtocol(EFFICIENTNET, file_hash(efficientnet_lite0_file()), "efficientnet", resize)
    weight_hash = file_hash(weights_file(config.weights))
    if config.network != INCEPTION:
        library, _, network = config.network.partition("/")
        slug = re.sub(r"\W+", "_", network).lower()
        return ExtractorProtocol(slug, weight_hash, library, str(preparation(config.network, config.side)))
    preset = INCEPTION_PRESETS[config.preset]
    scores = file_hash(weights_file(config.score_weights)) if config.score_weights else None
    name = "inception_v3_imagenet" if preset.imagenet else "inception_v3"
    return ExtractorProtocol(name, weight_hash, config.preset, preset.resize, scores, preset.multiple_of)


def load_extractor(config: ExtractorConfig, device: str = "cpu") -> FeatureExtractor:
    """Return the network that ``config`` names; without any name or weights, the packaged EfficientNet-Lite0.

    Raises:
        WeightsFileError: a file is missing or does not hold the network's weights.
        UserError: timm or open_clip has no such network.
    """
    network = _load(config)
    network.module.to(device)
    return FeatureExtractor(extractor_protocol(config), network, config.batch)


def _load(config: ExtractorConfig) -> Network:
    if config.weights is None:
        return Network(_EfficientNet(), _prepare_efficientnet, EFFICIENTNET_WIDTH)
    if config.network == INCEPTION:
        return _load_inception(config.weights, config.score_weights, config.preset)
    encoder = load_encoder(config.network, config.weights, config.side)
    return Network(encoder, preparation(config.network, config.side), encoder.width)


def _load_inception(weights: str, score_weights: str | None, preset: str) -> Network:
    # Imported here because torchvision takes seconds.
    from t2i.metrics.inception import WIDTH, TwoInceptions, load_inception

    chosen = INCEPTION_PRESETS[preset]
    module = load_inception(weights, imagenet=chosen.imagenet)
    if score_weights is None:
        return Network(module, chosen.prepare, WIDTH)
    return Network(TwoInceptions(module, load_inception(score_weights)), lambda images: images, WIDTH)


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
