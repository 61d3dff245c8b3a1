"""CLIPs of open_clip's list, by the name of their architecture and the tag of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import download_pretrained
from torch import nn

from models.errors import UserError
from models.reranker.components import CLIPComponents


def named_components(architecture: str, tag: str | None) -> CLIPComponents:
    """Return the architecture with random weights, and the activation and preprocessing of the weights ``tag``.

    Only files of the package are read; architectures that need others, from a hub, are refused.

    Raises:
        UserError: there is no such architecture or tag, or it needs files from a hub.
    """
    known = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD} | _recorded(architecture, tag)
    sizes = _sizes(architecture)
    model = open_clip.CustomTextCLIP if sizes.pop("custom_text", False) else open_clip.CLIP
    sizes["quick_gelu"] = sizes.get("quick_gelu", False) or known.get("quick_gelu", False)
    clip = model(**sizes)
    tokenize = open_clip.get_tokenizer(architecture)
    side, interpolation = clip.visual.image_size[0], known.get("interpolation", "bicubic")
    return CLIPComponents(
        clip, lambda captions: tokenize(list(captions)), side, known["mean"], known["std"], interpolation
    )


def load_named(clip: nn.Module, architecture: str, tag: str | None, weights: str | None) -> None:
    """Load the local file ``weights`` into ``clip``, or else the tag's weights, which open_clip downloads and caches.

    Raises:
        UserError: neither file nor tag is given, or the weights do not fit the architecture.
    """
    if not (weights or tag):
        raise UserError(f"clip.pretrained is empty: name a tag of {architecture}, or a file as clip.weights.")
    file = weights or download_pretrained(_recorded(architecture, tag))
    if not Path(file).is_file():
        raise UserError(f"clip.weights is {file}: there is no such file.")
    try:
        open_clip.load_checkpoint(clip, file)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"clip.weights {file} does not hold the weights of {architecture}: {reason}") from error


def _sizes(architecture: str) -> dict[str, Any]:
    """Return the arguments of open_clip's model class for an architecture."""
    sizes: dict[str, Any] | None = open_clip.get_model_config(architecture)
    if sizes is None:
        raise UserError(f"clip.architecture is {architecture!r}: use one of open_clip.list_models().")
    if "multimodal_cfg" in sizes or {"hf_model_name", "hf_tokenizer_name"} & set(sizes["text_cfg"]):
        raise UserError(
            f"clip.architecture {architecture} needs files from a hub: use one like ViT-B-32 that does not."
        )
    if "timm_model_name" in sizes["vision_cfg"]:
        sizes["vision_cfg"]["timm_model_pretrained"] = False
    return sizes


def _recorded(architecture: str, tag: str | None) -> dict[str, Any]:
    """Return what open_clip records of a tag: ``url``, ``mean``, ``std``, ``interpolation``, ``quick_gelu``."""
    recorded: dict[str, Any] = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    if tag and not recorded:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise UserError(f"clip.pretrained is {tag!r}: the tags of {architecture} are {tags}.")
    return recorded
