"""Image encoders of timm and open_clip by name, with weights from a local file: nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import UserError
from t2i.metrics.inception_input import WeightsFileError, weights_file

TIMM, OPENCLIP = "timm/", "openclip/"
"""How names of extractors begin that are taken from these libraries."""


@dataclass(frozen=True)
class Preparation:
    """How an encoder's images are made: resized to a square of ``side`` pixels, then normalised per channel."""

    side: int
    interpolation: str
    mean: Sequence[float]
    std: Sequence[float]

    def __str__(self) -> str:
        numbers = ", ".join(f"{value:g}" for value in (*self.mean, *self.std))
        return f"antialiased {self.interpolation} to {self.side} px, mean and std {numbers}"

    def __call__(self, images: Tensor) -> Tensor:
        """Prepare images uint8 [B, 3, H, W]: float32 [B, 3, side, side]."""
        size = (self.side, self.side)
        x = F.interpolate(images.float() / 255, size=size, mode=self.interpolation, antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std


class Encoder(nn.Module):
    """Maps prepared images of ``side`` pixels to features [B, ``width``] and, having no classifier, logits [B, 0]."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network = network.eval()
        with torch.inference_mode():
            self.width = self.network(torch.zeros(1, 3, side, side)).shape[1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and empty logits."""
        features = self.network(x)
        return features, features[:, :0]


def preparation(name: str, side: int | None) -> Preparation:
    """Return how images are prepared for ``timm/NAME`` or ``openclip/NAME[:TAG]``, at another ``side`` if it is given.

    Of open_clip, NAME is an architecture, and TAG the published weights that the file holds, whose normalisation and
    activation differ. Without one they are OpenAI's normalisation and the architecture's own activation (OpenAI's
    weights need the tag ``openai``, since they were trained with another).

    Raises:
        UserError: the library has no such model.
    """
    find = _timm_preparation if name.startswith(TIMM) else _openclip_preparation
    found = find(name.partition("/")[2])
    return Preparation(side or found.side, found.interpolation, found.mean, found.std)


def load_encoder(name: str, weights: str, side: int | None) -> Encoder:
    """Return the encoder ``timm/NAME`` or ``openclip/NAME[:TAG]`` with the weights of a local file.

    Raises:
        UserError: the library has no such model.
        WeightsFileError: the file is missing or does not fit the model.
    """
    file = str(weights_file(weights))
    size = preparation(name, side).side
    load = _load_timm if name.startswith(TIMM) else _load_openclip
    try:
        return Encoder(load(name.partition("/")[2], file, side), size)
    except Exception as error:  # both libraries raise unrelated classes for foreign files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsFileError(f"extractor.weights {file} does not hold the weights of {name}: {reason}") from error


def _timm_config(name: str) -> Any:
    """Return what timm records of the training of a network.

    Raises:
        UserError: it has no such network.
    """
    import timm

    known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if known is None:
        raise UserError(f"extractor.name is timm/{name}: use a name of timm.list_models(pretrained=True).")
    return known


def _timm_preparation(name: str) -> Preparation:
    known = _timm_config(name)
    return Preparation(known.input_size[-1], known.interpolation, known.mean, known.std)


def _load_timm(name: str, file: str, side: int | None) -> nn.Module:
    import timm

    # Convolutions take any size, and no argument for it.
    sized: dict[str, Any] = {"img_size": side} if side and _timm_config(name).fixed_input_size else {}
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": file}, num_classes=0, **sized)


def _openclip_preparation(name: str) -> Preparation:
    import open_clip

    architecture, _, tag = name.partition(":")
    sizes = open_clip.get_model_config(architecture)
    recorded = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    if sizes is None or (tag and not recorded):
        raise UserError(f"extractor.name is openclip/{name}: use ARCHITECTURE or ARCHITECTURE:TAG of open_clip's list.")
    known: dict[str, Any] = {
        "interpolation": "bicubic",
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
    } | recorded
    return Preparation(sizes["vision_cfg"]["image_size"], known["interpolation"], known["mean"], known["std"])


def _load_openclip(name: str, file: str, side: int | None) -> nn.Module:
    import open_clip

    architecture, _, tag = name.partition(":")
    recorded = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    clip: Any = open_clip.create_model(
        architecture,
        pretrained=file,
        force_image_size=side,
        force_quick_gelu=recorded.get("quick_gelu", False),
        pretrained_text=False,
    )
    image_tower: nn.Module = clip.visual
    return image_tower
