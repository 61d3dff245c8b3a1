"""The reranker: a CLIP, either one of open_clip's list or the small one of :mod:`models.reranker.packaged`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.manifest import CheckpointError
from models.precision import TORCH_DTYPES
from models.reranker.packaged import TOWERS, packaged_components, tower_hashes
from models.settings import setting

MAX_LOGIT_SCALE = 100.0
"""Upper bound of the logit scale (Radford et al. 2021)."""


@dataclass
class CLIPConfig:
    """Which CLIP it is: one of open_clip's, or without ``architecture`` the small one of this project."""

    architecture: str | None = setting(None, "an open_clip architecture, e.g. ViT-B-32; empty: the small CLIP")
    pretrained: str | None = setting(None, "open_clip's tag of the weights to start from, e.g. openai")
    weights: str | None = setting(
        None, "local .safetensors or .pt file to start from; empty: the tag's, from open_clip's cache", path="read"
    )
    image_size: int = setting(96, "side in pixels of the images that the small CLIP's image tower takes", at_least=32)
    width: int = setting(256, "width of the small CLIP's embeddings", at_least=1)
    hidden: int = setting(512, "hidden units of the small CLIP's two projection heads", at_least=1)
    dropout: float = setting(0.3, "dropout in the small CLIP's projection heads", at_least=0, below=1)
    image_tower: str | None = setting(None, "SHA-256 of the small CLIP's image tower; filled in when the model is made")
    text_tower: str | None = setting(None, "SHA-256 of the small CLIP's text tower; filled in when the model is made")

    def __post_init__(self) -> None:
        if self.architecture is None and (self.pretrained or self.weights):
            raise ValueError("clip.pretrained and clip.weights need clip.architecture: name it, e.g. ViT-B-32.")


class CLIPReranker(nn.Module):
    """Embeds images and captions as unit-norm features [B, F], whose dot product is the score of a pair.

    The constructor never uses the network: one of open_clip's architectures gets random weights (but see
    :meth:`from_pretrained`), the small CLIP has its towers' from their packages. Those are frozen (``frozen`` is true),
    and not in ``state_dict``.

    Raises:
        UserError: open_clip has no such architecture, or it needs files from a hub.
        CheckpointError: an installed tower's weights are not those that ``config`` names.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.frozen = config.architecture is None
        if config.architecture:
            from models.reranker.named import named_components  # imports open_clip, which takes seconds

            parts = named_components(config.architecture, config.pretrained)
        else:
            config = _with_tower_hashes(config)
            parts = packaged_components(config.image_size, config.width, config.hidden, config.dropout)
            self.register_state_dict_post_hook(_omit_towers)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_post_hook(_expect_no_towers)  # type: ignore[no-untyped-call]
        self.config = config
        self.clip: Any = parts.clip
        self.tokenize = parts.tokenize
        self.side, self.interpolation = parts.side, parts.interpolation
        self.register_buffer("mean", torch.tensor(parts.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(parts.std).view(3, 1, 1), persistent=False)
        self.train()  # for the frozen towers, which are in training mode when they are made: see train

    @classmethod
    def from_pretrained(cls, config: CLIPConfig) -> CLIPReranker:
        """Return a CLIP to train or to use, with the weights that ``config`` names for one of open_clip's.

        Raises:
            UserError: those weights are missing or do not fit.
        """
        model = cls(config)
        if config.architecture:
            from models.reranker.named import load_named

            load_named(model.clip, config.architecture, config.pretrained, config.weights)
        return model

    def forward(self, images: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unit-norm features [B, F] of B images and of B captions, with gradients.

        They are given as images [B, 3, H, W] in [0, 1] and token ids int64 [B, T], or, if the towers are frozen, as the
        outputs of :meth:`image_tower` and :meth:`text_tower`.
        """
        if self.frozen:
            features = self.clip.visual.head(images), self.clip.text.proj(text)
        else:
            features = self.clip.encode_image(self.prepare(images)), self.clip.encode_text(text)
        return F.normalize(features[0], dim=-1), F.normalize(features[1], dim=-1)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Return unit-norm features float32 [B, F] of images float [B, 3, H, W] in [0, 1], of any size and device."""
        return self.encode_prepared(self.prepare(images))

    @torch.no_grad()
    def encode_prepared(self, images: Tensor) -> Tensor:
        """Return unit-norm features float32 [B, F] of images that :meth:`prepare` returned."""
        return F.normalize(self.clip.encode_image(images.to(self.clip.logit_scale.dtype)).float(), dim=-1)

    @torch.no_grad()
    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """Return unit-norm features float32 [B, F] of captions; one that is too long for the text tower is cut."""
        return F.normalize(self.clip.encode_text(self.tokenize(captions).to(self.mean.device)).float(), dim=-1)

    @torch.no_grad()
    def image_tower(self, images: Tensor) -> Tensor:
        """Return the frozen image tower's outputs, [B, 1712], for images as :meth:`encode_images` takes them."""
        outputs: Tensor = self.clip.visual.trunk(self.prepare(images))
        return outputs

    @torch.no_grad()
    def text_tower(self, captions: Sequence[str]) -> Tensor:
        """Return the frozen text tower's outputs, [B, 384], for captions."""
        text, ids = self.clip.text, self.tokenize(captions).to(self.mean.device)
        mask = (ids != text.config.pad_token_id).long()
        outputs: Tensor = text.pooler(text.transformer(input_ids=ids, attention_mask=mask), mask)
        return outputs

    @property
    def logit_scale(self) -> Tensor:
        """The factor, 0-d, by which cosines are multiplied to make logits."""
        scale: Tensor = self.clip.logit_scale.exp()
        return scale

    @torch.no_grad()
    def limit_logit_scale(self) -> None:
        """Reduce the logit scale to 100 if it is larger."""
        self.clip.logit_scale.clamp_(max=torch.tensor(MAX_LOGIT_SCALE).log())

    def prepare(self, images: Tensor) -> Tensor:
        """Resize images [B, 3, H, W] in [0, 1] to the image tower's square, without cropping, and normalise them."""
        images = images.to(self.mean.device)
        if images.shape[-2:] != (self.side, self.side):
            images = images.contiguous()  # resizing channels-last images takes twice the time
            images = F.interpolate(images, size=(self.side, self.side), mode=self.interpolation, antialias=True)
        return images.clamp(0, 1).sub_(self.mean).div_(self.std)

    def for_inference(self, dtype: str) -> CLIPReranker:
        """Compute both towers in ``dtype``, convolutions channels last; preparation and features stay float32."""
        self.clip.to(dtype=TORCH_DTYPES[dtype], memory_format=torch.channels_last)
        return self

    def train(self, mode: bool = True) -> CLIPReranker:
        """Set the training mode, except of frozen towers, which stay in eval mode: their outputs are constants."""
        super().train(mode)
        if self.frozen:
            for name in TOWERS:
                self.clip.get_submodule(name).eval()
        return self


def _with_tower_hashes(config: CLIPConfig) -> CLIPConfig:
    """Return the configuration with the hashes of both installed towers.

    Raises:
        CheckpointError: it already has another hash.
    """
    hashes = tower_hashes()
    for field, found in hashes.items():
        expected = getattr(config, field)
        if expected not in (None, found):
            raise CheckpointError(
                f"clip.{field} is {expected[:12]} but the installed package's has {found[:12]}: install that one."
            )
    return replace(config, image_tower=hashes["image_tower"], text_tower=hashes["text_tower"])


def _omit_towers(model: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:  # noqa: ARG001 (a hook)
    """Drop the frozen towers' tensors from a state dict, as a hook of ``state_dict``."""
    for name in [name for name in state if name.removeprefix(prefix + "clip.").startswith(TOWERS)]:
        del state[name]


def _expect_no_towers(model: nn.Module, incompatible: Any) -> None:  # noqa: ARG001 (a hook)
    """Remove the frozen towers' tensors from the list of missing ones, as a hook of ``load_state_dict``."""
    missing = [name for name in incompatible.missing_keys if not name.removeprefix("clip.").startswith(TOWERS)]
    incompatible.missing_keys[:] = missing
