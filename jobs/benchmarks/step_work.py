"""What a decode step has to do at least, whatever the implementation."""

from __future__ import annotations

from dataclasses import dataclass

from models.prior import PriorConfig, prior_cost
from models.prior.accounting import mean_image_keys


@dataclass(frozen=True)
class StepWork:
    """FLOPs of a step's products with weights, and the bytes in bf16 that it has to read, each once."""

    flops: int
    bytes: float


def step_work(shape: PriorConfig, batch: int) -> StepWork:
    """Return the work of a step of ``batch`` candidates of one caption: weights, text, and each one's image keys."""
    products = prior_cost(shape).blocks + shape.codebook_size * shape.width
    keys = sum(mean_image_keys(shape, layer) for layer in range(shape.layers))
    text = shape.layers * shape.layout.prefix_length
    return StepWork(2 * batch * products, 2 * (products + 2 * shape.width * (batch * keys + text)))
