#!/usr/bin/env python
"""Fit the prior on captions and image tokens; a killed run goes on, a finished one is left alone.

    python jobs/train_prior.py run=runs/tiny train.steps=4000

Reads <run>/tokens, tokenizer and dvae/model. Writes <run>/prior: model/ checkpoints/ logs/ pictures/ metrics.json.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.data import Dataset

from models.errors import UserError
from models.manifest import model_hash
from models.presets import get_preset
from models.run_layout import RunLayout
from models.settings import setting
from models.tokenizer import CaptionTokenizer
from t2i.cluster import RayConfig, start_ray
from t2i.config import run_job
from t2i.data import TokenShards, read_token_shards
from t2i.data.token_shards import verify_shards
from t2i.storage import fetch_directory
from t2i.train import TrainConfig, fit, print_result
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig


@dataclass
class TrainPrior:
    """Configuration: the prior and its learning rate, and how to train it."""

    preset: str = setting("tiny", "model sizes: see models/presets.py")
    run: str = setting(
        "runs/${preset}", "run directory: reads tokens/, tokenizer/, dvae/model; writes prior/", path="written"
    )
    task: PriorTaskConfig = setting(PriorTaskConfig, "the prior and its schedule")
    train: TrainConfig = setting(TrainConfig, "how long to train, on how many workers")
    ray: RayConfig = setting(RayConfig, "where to run")

    @classmethod
    def for_preset(cls, name: str) -> TrainPrior:
        """Return the defaults with the sizes of preset ``name``."""
        return cls(preset=name, task=PriorTaskConfig(model=get_preset(name).prior))


def main(config: TrainPrior, make_task: Callable[[PriorTaskConfig, str, str], PriorTask] = PriorTask) -> None:
    """Fit the prior, continuing an earlier run if there is one, and print its final metrics."""
    run = config.run
    layout = RunLayout(run)
    tokens = {split: verify_shards(f"{run}/tokens/{split}").metadata for split in ("train", "val")}
    tokenizer = fetch_directory(layout.tokenizer)
    check_sizes(config, tokens["train"], CaptionTokenizer.load(tokenizer).vocabulary)
    inputs = {"tokens": tokens, "tokenizer": model_hash(tokenizer)}
    task = make_task(config.task, layout.tokenizer, layout.dvae)
    print_result(fit(task, lambda: read(config), config.train, f"{run}/prior", inputs))


def check_sizes(config: TrainPrior, tokens: Mapping[str, Any], vocabulary: int) -> None:
    """Check that the prior takes the run's image tokens, by their metadata, and the tokenizer's ``vocabulary``.

    Raises:
        UserError: it does not.
    """
    model, (height, width) = config.task.model, tokens["grid"]
    sizes = {"grid_height": height, "grid_width": width, "codebook_size": tokens["codebook_size"]}
    sizes["text_vocabulary"] = max(vocabulary, model.text_vocabulary)
    wrong = [f"task.model.{name}={size}" for name, size in sizes.items() if getattr(model, name) != size]
    if wrong:
        raise UserError(
            f"preset is {config.preset!r}, whose prior does not fit the tokens and tokenizer of {config.run}: "
            f"use the preset by which they were made, or set {' '.join(wrong)}."
        )


def read(config: TrainPrior) -> tuple[TokenShards, Dataset]:
    """Open the image tokens and captions to train on, and read those to validate on."""
    start_ray(config.ray)
    tokens = f"{config.run}/tokens"
    return TokenShards.of(f"{tokens}/train"), read_token_shards(f"{tokens}/val")[0]


if __name__ == "__main__":
    run_job(main, TrainPrior, "train_prior")
