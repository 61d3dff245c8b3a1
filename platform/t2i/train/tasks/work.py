"""How much there is to do in one update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.dvae import dvae_flops
from models.prior import stream_flops
from models.reranker import clip_training_flops
from t2i.train.tasks.clip import CLIPTaskConfig
from t2i.train.tasks.dvae import DVAETaskConfig
from t2i.train.tasks.prior import PriorTaskConfig


@dataclass(frozen=True)
class Work:
    """One update over all workers: how many of which ``unit`` (a plural), and its FLOPs; None where nobody counted."""

    count: int
    unit: str = "images"
    flops: float | None = None


def work_of_step(config: Any, batch_size: int, recomputed: bool = False) -> Work:
    """The work of ``batch_size`` images, given a task's configuration.

    The FLOPs are those of the model (for MFU); ``recomputed`` adds what activation checkpointing computes twice (HFU).
    """
    if isinstance(config, PriorTaskConfig):
        flops = stream_flops(config.model).training(recomputed)
        return Work(batch_size * config.model.layout.length, "tokens", batch_size * flops)
    if isinstance(config, DVAETaskConfig):
        return Work(batch_size, "images", batch_size * dvae_flops(config.model, config.image_size).training)
    if isinstance(config, CLIPTaskConfig):
        return Work(batch_size, "pairs", clip_training_flops(config.model, batch_size))
    return Work(batch_size)
