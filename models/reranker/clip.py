"""The reranker: a CLIP, either of open_clip's list or the small one that is trained here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.manifest import CheckpointError
from models.reranker.packaged import TOWERS, packaged_components, tower_hashes
from models.settings import setting

MAX_LOGIT_SCALE = 100.0


@dataclass
class CLIPConfig:
    """Which CLIP; without ``architecture`` it is the small one of :mod:`models.reranker.packaged`."""

    architecture: str | None = setting(None, "an open_clip architecture, e.g. ViT-B-32; empty: the small CLIP")
    pretrained: str | None = setting(None, "open_clip's tag of the weights to start from, e.g. openai")
    weights: str | None = setting(None, "local .safetensors or .pt to start from; empty: open_clip's cache of the tag")
    image_size: int = setting(96, "side in pixels of what the small CLIP's image tower sees")
    width: int = setting(256, "width of the small CLIP's embeddings")
    hidden: int = setting(512, "hidden units of its two projection heads")
    dropout: float = setting(0.3, "dropout in its projection heads")
    image_tower: str | None = setting(None, "SHA-256 of its image tower's packaged weights; filled in when made")
    text_tower: str | None = setting(None, "SHA-256 of its text tower's packaged weights; filled in when made")

    def __post_init__(self) -> None:
        if self.architecture is None and (self.pretrained or self.weights):
            raise ValueError("clip.pretrained and clip.weights need clip.architecture: name it, e.g. ViT-B-32.")
        if self.image_size < 32:
            raise ValueError(f"clip.image_size is {self.image_size}: use at least 32.")


class CLIPReranker(nn.Module):
    """Images and captions -> unit-norm embeddings [B, E], whose dot product is the score.

    Making one never reaches for a network: a named architecture begins with random weights (but see
    :meth:`from_pretrained`), the small one with those of its towers' packages. Its towers are not in ``state_dict``.

    Raises:
        UserError: a named architecture that there is not, or that needs files from a hub.
        CheckpointError: a packaged tower is another one than ``config`` says.
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
            self.register_state_dict_post_hook(_omit_towers)
            self.register_load_state_dict_post_hook(_expect_no_towers)
        self.config = config
        self.clip: Any = parts.clip
        self.tokenize = parts.tokenize
        self.side, self.interpolation = parts.side, parts.interpolation
        self.register_buffer("mean", torch.tensor(parts.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(parts.std).view(3, 1, 1), persistent=False)
        self.train()  # but not the locked towers, which come from their makers in training mode

    @classmethod
    def from_pretrained(cls, config: CLIPConfig) -> CLIPReranker:
        """The CLIP to train or to use as it is: of a named architecture, with the weights that ``config`` names.

        Raises:
            UserError: those weights are missing or do not fit.
        """
        model = cls(config)
        if config.architecture:
            from models.reranker.named import load_named

            load_named(model.clip, config.architecture, config.pretrained, config.weights)
        return model

    def forward(self, images: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] in [0, 1] and ids [B, T] (of a locked CLIP: its towers' outputs) -> unit [B, E] each."""
        if self.frozen:
            features = self.clip.visual.head(images), self.clip.text.proj(text)
        else:
            features = self.clip.encode_image(self.prepare(images)), self.clip.encode_text(text)
        return F.normalize(features[0], dim=-1), F.normalize(features[1], dim=-1)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Images float [B, 3, H, W] in [0, 1], of any size and on any device -> unit-norm embeddings float32 [B, E]."""
        return self.encode_prepared(self.prepare(images))

    @torch.no_grad()
    def encode_prepared(self, images: Tensor) -> Tensor:
        """What :meth:`prepare` made of images -> their unit-norm embeddings float32 [B, E]."""
        return F.normalize(self.clip.encode_image(images.to(self.clip.logit_scale.dtype)).float(), dim=-1)

    @torch.no_grad()
    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """Captions -> unit-norm embeddings float32 [B, E]; a caption too long for the text tower loses its end."""
        return F.normalize(self.clip.encode_text(self.tokenize(captions).to(self.mean.device)).float(), dim=-1)

    @torch.no_grad()
    def image_tower(self, images: Tensor) -> Tensor:
        """What the locked image tower gives to its head: images as for :meth:`encode_images` -> [B, F]."""
        return self.clip.visual.trunk(self.prepare(images))

    @torch.no_grad()
    def text_tower(self, captions: Sequence[str]) -> Tensor:
        """What the locked text tower gives to its head: captions -> [B, F]."""
        text, ids = self.clip.text, self.tokenize(captions).to(self.mean.device)
        mask = (ids != text.config.pad_token_id).long()
        return text.pooler(text.transformer(input_ids=ids, attention_mask=mask), mask)

    @property
    def logit_scale(self) -> Tensor:
        """The scalar by which cosines are multiplied to make logits."""
        return self.clip.logit_scale.exp()

    @torch.no_grad()
    def limit_logit_scale(self) -> None:
        """Keep the scale at 100 or below, as Radford et al. 2021 do."""
        self.clip.logit_scale.clamp_(max=torch.tensor(MAX_LOGIT_SCALE).log())

    def prepare(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] -> what the image tower takes: square (not cropped), normalised."""
        images = images.to(self.mean.device)
        if images.shape[-2:] != (self.side, self.side):
            images = images.contiguous()  # resizing pictures that lie channels last takes twice the time
            images = F.interpolate(images, size=(self.side, self.side), mode=self.interpolation, antialias=True)
        return images.clamp(0, 1).sub_(self.mean).div_(self.std)

    def for_inference(self, dtype: torch.dtype) -> CLIPReranker:
        """Compute both towers in ``dtype``, convolutions channels last; preparation and embeddings stay float32."""
        self.clip.to(dtype=dtype, memory_format=torch.channels_last)
        return self

    def train(self, mode: bool = True) -> CLIPReranker:
        """Locked towers stay in eval mode: their outputs are constants."""
        super().train(mode)
        if self.frozen:
            for name in TOWERS:
                self.clip.get_submodule(name).eval()
        return self


def _with_tower_hashes(config: CLIPConfig) -> CLIPConfig:
    """The configuration with the hash of each packaged tower, which must be the one that it has, if any."""
    hashes = tower_hashes()
    for field, found in hashes.items():
        expected = getattr(config, field)
        if expected not in (None, found):
            raise CheckpointError(
                f"clip.{field} is {expected[:12]} but the installed package's has {found[:12]}: install that one."
            )
    return replace(config, image_tower=hashes["image_tower"], text_tower=hashes["text_tower"])


def _omit_towers(model: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """State-dict hook: drop the locked towers' tensors."""
    for name in [name for name in state if name.removeprefix(prefix + "clip.").startswith(TOWERS)]:
        del state[name]


def _expect_no_towers(model: nn.Module, incompatible: Any) -> None:
    """Load hook: that the locked towers' tensors are absent is no error."""
    missing = [name for name in incompatible.missing_keys if not name.removeprefix("clip.").startswith(TOWERS)]
    incompatible.missing_keys[:] = missing
