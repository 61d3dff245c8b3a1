"""Parameters, FLOPs and cache size of a prior, computed from its configuration without building it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from models.prior.masks import image_mask, layer_kind, stream_mask
from models.prior.transformer import PriorConfig


@dataclass(frozen=True)
class PriorCost:
    """Sizes and costs of a prior.

    ``parameters`` counts everything that is learned, ``blocks`` the weight matrices of all layers alone (12 D^2 each).
    ``flops_per_image_token`` is the forward pass of one image token, on average over an image: 2 for each multiply-add
    of weights and of the query-key pairs that the masks keep; training costs three times as much.
    ``kv_values_per_token`` is the number of values that a dense KV cache holds for one position.
    """

    parameters: int
    blocks: int
    flops_per_image_token: float
    kv_values_per_token: int


def prior_cost(config: PriorConfig) -> PriorCost:
    """Return the sizes and costs of a prior of these sizes."""
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
    """Return the number of image keys that a query of this layer sees, on average over an image's tokens."""
    return image_mask(layer_kind(layer, config.layers), config.layout.grid).float().sum(dim=1).mean().item()


@dataclass(frozen=True)
class StreamFlops:
    """FLOPs of the forward pass of one whole stream: 2 for each multiply-add of a matrix product, nothing else.

    ``attention`` counts only the query-key pairs that the masks keep. A dense kernel computes all L x L of them, and a
    block-sparse one some more than the masks keep: that is overhead, by the convention of PaLM's appendix B.
    """

    weights: int
    attention: int
    heads: int

    @property
    def forward(self) -> int:
        """FLOPs of the whole forward pass."""
        return self.weights + self.attention + self.heads

    def training(self, recomputed: bool = False) -> int:
        """Return the FLOPs of forward and backward, which has two products for each one of the forward.

        ``recomputed`` adds a second forward pass of the blocks, as activation checkpointing runs it. Set it for the
        utilisation of the hardware (HFU), not for that of the model (MFU), which counts recomputation as overhead.
        """
        return 3 * self.forward + (self.weights + self.attention if recomputed else 0)


def stream_flops(config: PriorConfig) -> StreamFlops:
    """Return the FLOPs of one stream of L inputs and of the T + N logits that the loss needs."""
    width, layers, layout = config.width, config.layers, config.layout
    text_head = layout.text_length * (config.text_vocabulary + config.text_length)
    image_head = layout.image_length * config.codebook_size
    return StreamFlops(
        weights=2 * 12 * width**2 * layers * layout.length,
        attention=4 * width * attended_pairs(config),
        heads=2 * width * (text_head + image_head),
    )


def attended_pairs(config: PriorConfig) -> int:
    """Return the number of query-key pairs that the masks keep in a whole stream, summed over all layers."""
    layout = config.layout
    kinds = Counter(layer_kind(layer, config.layers) for layer in range(config.layers))
    return sum(n * int(stream_mask(kind, layout.prefix_length, layout.grid).sum()) for kind, n in kinds.items())
