"""FLOPs of CLIP training, computed from its configuration without building it."""

from __future__ import annotations

from typing import Any

from models.reranker.clip import CLIPConfig

IMAGE_FEATURES, TEXT_FEATURES = 1712, 384
"""Width of the outputs of the small CLIP's frozen image and text tower."""

KNOWN_VISION = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "ls_init_value"}
KNOWN_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "ls_init_value"}
"""Keys by which open_clip describes plain transformers; the FLOPs of a tower with any other key are not counted."""


def clip_training_flops(config: CLIPConfig, batch_size: int) -> int | None:
    """Return the FLOPs of forward and backward over ``batch_size`` pairs; None if a tower is not a plain transformer.

    2 for each multiply-add of a matrix product; nothing else is counted. Frozen towers cost nothing: their outputs are
    computed once, before training. The product of all images' with all captions' embeddings counts once, although
    every worker computes it.
    """
    if config.architecture:
        towers, width = _named_towers(config.architecture)
    else:
        towers, width = _heads(config), config.width
    return None if towers is None else batch_size * towers + 3 * 2 * batch_size**2 * width


def _heads(config: CLIPConfig) -> int:
    """Return the FLOPs of the small CLIP's heads for one pair; their inputs are constants and need no gradient."""
    first = 2 * (IMAGE_FEATURES + TEXT_FEATURES) * config.hidden
    second = 2 * 2 * config.hidden * config.width
    return 2 * first + 3 * second


def _named_towers(architecture: str) -> tuple[int | None, int]:
    """Return the FLOPs of both towers of an open_clip architecture for one pair, and the width of its embeddings."""
    import open_clip  # here, since it takes seconds that the small CLIP need not spend

    sizes: dict[str, Any] = open_clip.get_model_config(architecture)
    vision, text, width = sizes["vision_cfg"], sizes["text_cfg"], sizes["embed_dim"]
    if not (set(vision) <= KNOWN_VISION and set(text) <= KNOWN_TEXT and isinstance(vision["layers"], int)):
        return None, width
    return _image_tower(vision, width) + _text_tower(text, width), width


def _image_tower(sizes: dict[str, Any], embedding: int) -> int:
    """Return the FLOPs of a vision transformer: patches and a class token, all of which see each other."""
    width, patches = sizes["width"], (sizes["image_size"] // sizes["patch_size"]) ** 2
    length = patches + 1
    pixels = 2 * 3 * sizes["patch_size"] ** 2 * width * patches
    blocks = sizes["layers"] * _block(width, sizes.get("mlp_ratio", 4.0), length, length**2)
    flops: int = 2 * pixels + 3 * (blocks + 2 * width * embedding)
    return flops


def _text_tower(sizes: dict[str, Any], embedding: int) -> int:
    """Return the FLOPs of a causal transformer over the whole context, without the pairs that the causal mask hides."""
    width, length = sizes["width"], sizes.get("context_length", 77)
    pairs = length * (length + 1) // 2
    blocks = sizes["layers"] * _block(width, sizes.get("mlp_ratio", 4.0), length, pairs)
    flops: int = 3 * (blocks + 2 * width * embedding)
    return flops


def _block(width: int, mlp_ratio: float, length: int, pairs: int) -> int:
    """Return the FLOPs of one block's forward pass over ``length`` tokens and ``pairs`` of query and key."""
    weights = 4 * width**2 + 2 * width * int(width * mlp_ratio)
    return 2 * weights * length + 4 * width * pairs
