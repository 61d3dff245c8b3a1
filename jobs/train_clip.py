#!/usr/bin/env python
"""Fit the CLIP reranker on captioned images; a killed run goes on, a finished one is left alone.

    python jobs/train_clip.py run=runs/tiny

Writes <run>/clip: model/ checkpoints/ logs/ (TensorBoard) metrics.json.
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
from t2i.data.run_record import trained_image_size
from t2i.train import TrainConfig, fit, print_result
from t2i.train.tasks.clip import CLIPTask, CLIPTaskConfig


@dataclass
class TrainCLIP:
    """Configuration: the data, the CLIP, and how to train it."""

    preset: str = setting("tiny", "image size and model sizes: see models/presets.py")
    run: str = setting("runs/${preset}", "run directory: writes clip/", path="written")
    data: PairSources = setting(PairSources, "captioned images")
    image_size: int | None = setting(
        None,
        "side of the images in pixels; empty: what the run's dVAE was trained on, without one the preset's",
        at_least=1,
    )
    task: CLIPTaskConfig = setting(CLIPTaskConfig, "the CLIP and its schedule")
    train: TrainConfig = setting(TrainConfig, "how long to train, on how many workers")
    ray: RayConfig = setting(RayConfig, "where to run")

    @classmethod
    def for_preset(cls, name: str) -> TrainCLIP:
        """Return the defaults with the sizes of preset ``name``."""
        return cls(preset=name, task=CLIPTaskConfig(model=get_preset(name).clip))


def main(config: TrainCLIP) -> None:
    """Fit the CLIP, continuing an earlier run if there is one, and print its final metrics."""
    config.data.check()
    size = image_size(config)
    inputs = {"data": recorded(config.data), "image_size": size}
    task = CLIPTask(config.task, size)
    print_result(fit(task, lambda: read(config, size), config.train, f"{config.run}/clip", inputs))


def image_size(config: TrainCLIP) -> int:
    """Return the side in px of the images that the CLIP will rank: the setting, the run's dVAE's, or the preset's."""
    return config.image_size or trained_image_size(config.run) or get_preset(config.preset).image_size


def read(config: TrainCLIP, side: int) -> tuple[Dataset | Shards, Dataset]:
    """Read images of ``side`` pixels, the size that generated ones have.

    Never in windows for a frozen CLIP, whose towers see all images once, before training.
    """
    start_ray(config.ray)
    window_rows = None if config.task.model.architecture is None else config.train.window_rows
    return config.data.decode(side, f"{config.run}/clip", window_rows=window_rows)


if __name__ == "__main__":
    run_job(main, TrainCLIP, "train_clip")
