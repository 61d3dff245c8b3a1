#!/usr/bin/env python
"""Print how good a finished run's dVAE, prior and CLIP are: what their training prints at its end, on any images.

    python jobs/validate.py run=models/trained/small source.path=jobs/datasets/emoji64/val.parquet

The run may be a copy without its training, such as export_models.py makes. Images have the size that the run draws.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from models.checkpoint import load_model
from models.devices import default_device
from models.dvae import DVAE, DVAEConfig
from models.prior import Prior, PriorConfig
from models.reranker import CLIPConfig, CLIPReranker
from models.run_layout import RunLayout
from models.run_sizes import run_sizes
from models.settings import setting
from t2i.cluster import RayConfig, start_ray
from t2i.config import run_job
from t2i.data import SourceConfig, check_pairs, decode_pairs, load_columns, read_pairs
from t2i.data.image_tokens import TokenizeImages
from t2i.storage import fetch_run, run_setting
from t2i.train.tasks.base import Columns, row_batches
from t2i.train.tasks.clip import CLIPTask, CLIPTaskConfig
from t2i.train.tasks.dvae import DVAETask, DVAETaskConfig
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig


@dataclass
class Validate:
    """Which run, and on which captioned images."""

    run: str = run_setting("runs/tiny")
    source: SourceConfig = setting(
        lambda: SourceConfig("jobs/datasets/emoji64/val.parquet"), "captioned images, which are held in memory"
    )
    batch_size: int = setting(128, "images of one forward pass", at_least=1)
    ray: RayConfig = setting(RayConfig, "where the images are read")


def main(config: Validate) -> None:
    """Print the metrics of the three models, one a line."""
    check_pairs(config.source)
    config = replace(config, run=fetch_run(config.run))
    side = run_sizes(config.run).side
    start_ray(config.ray)
    columns = load_columns(decode_pairs(read_pairs(config.source), side))
    print(f"{len(columns['id'])} images of {side} px", flush=True)
    for name, measure in {"dvae": measure_dvae, "prior": measure_prior, "clip": measure_clip}.items():
        for metric, value in measure(columns, config).items():
            print(f"{name:<6} {metric:<28} {value:.6g}", flush=True)


def measure_dvae(columns: Columns, config: Validate) -> dict[str, float]:
    """Return the metrics of :meth:`DVAETask.validate`, and the number of parameters."""
    model = load_model(DVAE, DVAEConfig, RunLayout(config.run).dvae, default_device())
    task = DVAETask(DVAETaskConfig(model=model.config, image_size=columns["pixels"].shape[1]))
    return parameters(model) | task.validate(model, columns, config.batch_size)


def measure_prior(columns: Columns, config: Validate) -> dict[str, float]:
    """Return the metrics of :meth:`PriorTask.validate`, and the number of parameters."""
    layout = RunLayout(config.run)
    dvae = TokenizeImages(layout.dvae)
    tokens = [dvae.encode(columns["pixels"][rows]) for rows in row_batches(len(columns["id"]), config.batch_size)]
    model = load_model(Prior, PriorConfig, layout.prior, default_device())
    task = PriorTask(PriorTaskConfig(model=model.config), layout.tokenizer, layout.dvae)
    columns = task.prepare(columns | {"image_tokens": np.concatenate(tokens)}, model)
    return parameters(model) | task.validate(model, columns, config.batch_size)


def measure_clip(columns: Columns, config: Validate) -> dict[str, float]:
    """Return the metrics of :meth:`CLIPTask.validate`, and the number of parameters but those of packaged towers."""
    model = load_model(CLIPReranker, CLIPConfig, RunLayout(config.run).clip, default_device())
    task = CLIPTask(CLIPTaskConfig(model=model.config), columns["pixels"].shape[1])
    return parameters(model) | task.validate(model, task.prepare(columns, model), config.batch_size)


def parameters(model: nn.Module) -> dict[str, float]:
    """Return how many numbers a model's weights file holds."""
    return {"parameters": sum(tensor.numel() for tensor in model.state_dict().values())}


if __name__ == "__main__":
    run_job(main, Validate, "validate")
