#!/usr/bin/env python
"""Fit the dVAE on images; a killed run goes on, a finished one is left alone.

    python jobs/train_dvae.py run=runs/tiny train.steps=2000

Writes <run>/dvae: model/ checkpoints/ logs/ (TensorBoard) pictures/ metrics.json.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import dataclass

from ray.data import Dataset

from models.presets import get_preset
from models.settings import setting
from t2i.cluster import RayConfig, start_ray
from t2i.config import recorded, run_job
from t2i.data import PairSources, Shards
from t2i.train import TrainConfig, fit, print_result
from t2i.train.tasks.dvae import DVAETask, DVAETaskConfig


@dataclass
class TrainDVAE:
    """Configuration: the data, the dVAE and its schedules, and how to train it."""

    preset: str = setting("tiny", "image size and model sizes: see models/presets.py")
    run: str = setting("runs/${preset}", "run directory: writes dvae/", path="written")
    data: PairSources = setting(PairSources, "captioned images; their captions are not used")
    task: DVAETaskConfig = setting(DVAETaskConfig, "the dVAE and its schedules")
    train: TrainConfig = setting(TrainConfig, "how long to train, on how many workers")
    ray: RayConfig = setting(RayConfig, "where to run")

    @classmethod
    def for_preset(cls, name: str) -> TrainDVAE:
        """Return the defaults with the sizes of preset ``name``."""
        preset = get_preset(name)
        return cls(preset=name, task=DVAETaskConfig(model=preset.dvae, image_size=preset.image_size))


def main(config: TrainDVAE) -> None:
    """Fit the dVAE, continuing an earlier run if there is one, and print its final metrics."""
    config.data.check()
    inputs = {"data": recorded(config.data)}
    directory = f"{config.run}/dvae"
    print_result(fit(DVAETask(config.task), lambda: read(config), config.train, directory, inputs))


def read(config: TrainDVAE) -> tuple[Dataset | Shards, Dataset]:
    """Read training images, uncropped and encoded if they are to be augmented, and validation images."""
    start_ray(config.ray)
    return config.data.decode(
        config.task.image_size,
        f"{config.run}/dvae",
        encoded_train=config.task.augment,
        window_rows=config.train.window_rows,
    )


if __name__ == "__main__":
    run_job(main, TrainDVAE, "train_dvae")
