#!/usr/bin/env python
"""Train a prior that does one thing otherwise than the paper; all else, and every setting, is train_prior.py's.

    python jobs/benchmarks/train_variant.py variant=dense preset=small run=runs/studies/masks/dense

For the studies in jobs/benchmarks/studies. A variant can be trained and measured, but not served: the engine knows only
the paper's prior.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import _source  # noqa: F401  isort: skip

import torch.nn.functional as F
from torch import Tensor, nn

import train_prior
from models import gradient_scaling
from models.prior import Prior, PriorConfig
from models.prior.decoding.kv_cache import AttentionFn
from models.settings import setting
from t2i.config import run_job
from t2i.train.tasks.base import Columns
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig


class DensePrior(Prior):
    """Every image token sees all image tokens before it, in every layer."""

    def _training_attention(self, stream: Tensor) -> list[AttentionFn]:  # noqa: ARG002  one mask for all streams
        return [partial(F.scaled_dot_product_attention, is_causal=True)] * self.config.layers


class MaskedPadsPrior(Prior):
    """No position sees a pad: where a caption ends, its text ends, as in most transformers."""

    def _training_attention(self, stream: Tensor) -> list[AttentionFn]:
        vocabulary, length = self.layout.text_vocabulary, self.layout.text_length
        is_pad = (stream >= vocabulary) & (stream < vocabulary + length)
        masks = {kind: mask & ~is_pad[:, None, None] for kind, mask in self._masks().items()}  # [B, 1, L, L]
        return [partial(F.scaled_dot_product_attention, attn_mask=masks[kind]) for kind in self.kinds]


class OneScalePrior(Prior):
    """In fp16 its whole loss has one scale, as in ordinary mixed precision, since no block asks for its own."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__(config)
        for block in self.blocks:
            vars(block).update(add_attention=_add, add_mlp=_add)


class UnscaledPrior(OneScalePrior):
    """In fp16 no gradient is scaled."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__(config)
        # Read when the scale is made, after the model, in this worker: it begins at 1 and stays there.
        gradient_scaling.INITIAL_SCALE = gradient_scaling.MIN_SCALE = gradient_scaling.MAX_SCALE = 1.0


def _add(x: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
    return x + branch(x)


VARIANTS: dict[str, type[Prior]] = {
    "paper": Prior,
    "dense": DensePrior,
    "masked_pads": MaskedPadsPrior,
    "one_scale": OneScalePrior,
    "unscaled": UnscaledPrior,
}


class VariantTask(PriorTask):
    """Trains one of :data:`VARIANTS`."""

    def __init__(self, variant: str, config: PriorTaskConfig, tokenizer: str, dvae: str) -> None:
        super().__init__(config, tokenizer, dvae)
        self.variant = variant

    def build(self) -> Prior:
        """Return the variant with random weights."""
        return VARIANTS[self.variant](self.config.model)

    def pictures(self, model: nn.Module, columns: Columns) -> dict[str, Tensor]:  # noqa: ARG002
        """Return none: the engine would draw as the paper does."""
        return {}


@dataclass
class TrainVariant(train_prior.TrainPrior):
    """What train_prior.py is told, and the variant."""

    variant: str = setting("paper", f"what is done otherwise: {', '.join(VARIANTS)}")

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant is {self.variant!r}: use {' or '.join(VARIANTS)}.")


def main(config: TrainVariant) -> None:
    """Fit the variant as train_prior.py fits the prior."""
    train_prior.main(config, partial(VariantTask, config.variant))


if __name__ == "__main__":
    run_job(main, TrainVariant, "train_prior")
