"""What a step of CLIP training costs, without making one."""

from __future__ import annotations

from typing import Any

from models.reranker.clip import CLIPConfig

IMAGE_FEATURES, TEXT_FEATURES = 1712, 384
"""What the small CLIP's locked towers give to its heads."""

KNOWN_VISION = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "ls_init_value"}
KNOWN_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "ls_init_value"}
"""What open_clip's plain transformers are described by; any other key makes a tower that is not accounted for here."""


def clip_training_flops(config: CLIPConfig, batch_size: int) -> int | None:
    """FLOPs of a forward and backward pass over ``batch_size`` pairs, or None for a tower that is not a transformer.

    2 for each multiply-add of a matrix product; nothing else is counted. Locked towers cost nothing: their outputs are
    computed once, before training. Every worker multiplies all embeddings of the batch; here that counts once.
    """
    if config.architecture:
        towers, width = _named_towers(config.architecture)
    else:
        towers, width = _heads(config), config.width
    return None if towers is None else batch_size * towers + 3 * 2 * batch_size**2 * width


def _heads(config: CLIPConfig) -> int:
    """The small CLIP's projections, for one pair; the towers' outputs, which are constants, need no gradient."""
    first = 2 * (IMAGE_FEATURES + TEXT_FEATURES) * config.hidden
    second = 2 * 2 * config.hidden * config.width
    return 2 * first + 3 * second


def _named_towers(architecture: str) -> tuple[int | None, int]:
    """Both towers of one of open_clip's architectures for one pair, and the width of the embeddings."""
    import open_clip  # takes seconds, which the small CLIP has not to spend

    sizes = open_clip.get_model_config(architecture)
    vision, text, width = sizes["vision_cfg"], sizes["text_cfg"], sizes["embed_dim"]
    if not (set(vision) <= KNOWN_VISION and set(text) <= KNOWN_TEXT and isinstance(vision["layers"], int)):
        return None, width
    return _image_tower(vision, width) + _text_tower(text, width), width


def _image_tower(sizes: dict[str, Any], embedding: int) -> int:
    """A vision transformer: patches and a class token, all of which see each other."""
    width, patches = sizes["width"], (sizes["image_size"] // sizes["patch_size"]) ** 2
    length = patches + 1
    pixels = 2 * 3 * sizes["patch_size"] ** 2 * width * patches
    blocks = sizes["layers"] * _block(width, sizes.get("mlp_ratio", 4.0), length, length**2)
    return 2 * pixels + 3 * (blocks + 2 * width * embedding)


def _text_tower(sizes: dict[str, Any], embedding: int) -> int:
    """A causal transformer over the whole context; a dense kernel computes the other half of its pairs as well."""
    width, length = sizes["width"], sizes.get("context_length", 77)
    pairs = length * (length + 1) // 2
    blocks = sizes["layers"] * _block(width, sizes.get("mlp_ratio", 4.0), length, pairs)
    return 3 * (blocks + 2 * width * embedding)


def _block(width: int, mlp_ratio: float, length: int, pairs: int) -> int:
    """Forward of one transformer block over ``length`` tokens and ``pairs`` of query and key."""
    weights = 4 * width**2 + 2 * width * int(width * mlp_ratio)
    return 2 * weights * length + 4 * width * pairs
