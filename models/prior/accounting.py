"""What a prior of given sizes costs, without making one."""

from __future__ import annotations

from dataclasses import dataclass

from models.prior.masks import image_mask, layer_kind
from models.prior.transformer import PriorConfig


@dataclass(frozen=True)
class PriorCost:
    """``blocks`` counts the weight matrices of all layers (12 D^2 each), ``parameters`` everything that is learned.

    ``flops_per_image_token`` is the forward pass: 2 for each multiply-add of weights and of the attention that the
    masks leave, on average over an image's tokens (training costs three times as much). ``kv_values_per_token`` are
    the numbers that a dense cache holds for one position; times 2 bytes in bf16.
    """

    parameters: int
    blocks: int
    flops_per_image_token: float
    kv_values_per_token: int


def prior_cost(config: PriorConfig) -> PriorCost:
    """The cost of a prior of these sizes."""
    width, layers, layout = config.width, config.layers, config.layout
    blocks = layers * 12 * width**2
    vectors = layers * (3 * width + width + 4 * width + width + 4 * width) + 2 * width  # biases and norms
    embeddings = (layout.vocabulary + layout.prefix_length + config.grid_height + config.grid_width) * width
    heads = (config.text_vocabulary + config.text_length + config.codebook_size) * width
    keys = sum(layout.prefix_length + mean_image_keys(config, layer) for layer in range(layers))
    return PriorCost(
        parameters=blocks + vectors + embeddings + heads,
        blocks=blocks,
        flops_per_image_token=2 * (blocks + config.codebook_size * width) + 4 * width * keys,
        kv_values_per_token=2 * layers * width,
    )


def mean_image_keys(config: PriorConfig, layer: int) -> float:
    """Image keys that a query of this layer sees, on average over an image's tokens."""
    return image_mask(layer_kind(layer, config.layers), config.layout.grid).float().sum(dim=1).mean().item()
