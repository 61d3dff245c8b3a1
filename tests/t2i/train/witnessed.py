"""A run that writes down every step it takes, for tests that kill it.

    python witnessed.py DIRECTORY STEPS [run=URI] [address=CLUSTER] [min_workers=N]

Each worker appends to ``DIRECTORY/witness`` lines of JSON: step, number of workers, rows and loss, to the last bit.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray.data
import torch
import torch.distributed as dist
from torch import Tensor, nn

from t2i.cluster import RayConfig, start_ray
from t2i.train import TrainConfig, fit
from t2i.train.noise import Noise
from t2i.train.optim.adamw import OptimizerConfig
from t2i.train.tasks.base import Batch, Columns, Headline, Task, Work

ROWS = 50
BATCH = 16
SECONDS_PER_STEP = 0.05


def task_of(witness: Path) -> Task:
    """Its classes are local so that they travel to Ray's workers by value."""

    @dataclass
    class NetConfig:
        lr: float = 1e-2

    class Net(nn.Module):
        def __init__(self, config: NetConfig) -> None:
            super().__init__()
            self.config = config
            self.layers = nn.Sequential(nn.Linear(4, 32), nn.Dropout(0.1), nn.GELU(), nn.Linear(32, 1))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layers(x)
            return y

    class WitnessedTask(Task):
        headline = Headline("mse", higher_is_better=False)

        def __init__(self, config: NetConfig) -> None:
            self.config: NetConfig = config

        @property
        def optimizer(self) -> OptimizerConfig:
            return OptimizerConfig(clip_norm=1.0)

        def lr(self, step: int) -> float:  # noqa: ARG002  constant
            return self.config.lr

        def work(self, batch_size: int, recomputed: bool = False) -> Work:  # noqa: ARG002  not counted
            return Work(batch_size)

        def build(self) -> nn.Module:
            return Net(self.config)

        def batch(self, columns: Columns, rows: np.ndarray, noise: Noise | None = None) -> Batch:
            x = torch.from_numpy(columns["x"][rows])
            jitter = torch.zeros(len(rows)) if noise is None else torch.tensor(noise.uniform(0)).float()
            return {"x": x, "row": torch.from_numpy(rows), "jitter": jitter}

        def loss(
            self,
            model: nn.Module,
            batch: Batch,
            step: int,
            noise: Noise,  # noqa: ARG002  its noise is in the batch, and dropout's
        ) -> tuple[Tensor, dict[str, Tensor]]:
            time.sleep(SECONDS_PER_STEP)
            predicted = model(batch["x"])[:, 0]
            loss = (predicted - batch["x"].sum(1) - 0.1 * batch["jitter"]).square().mean()
            world = dist.get_world_size() if dist.is_initialized() else 1
            line = {"step": step, "world": world, "rows": batch["row"].tolist(), "loss": loss.item().hex()}
            with witness.open("a") as file:
                file.write(json.dumps(line) + "\n")
            return loss, {}

        def validate(self, model: nn.Module, columns: Columns, batch_size: int) -> dict[str, float]:  # noqa: ARG002  small
            x = torch.tensor(columns["x"])
            return {"mse": (model(x)[:, 0] - x.sum(1)).square().mean().item()}

    return WitnessedTask(NetConfig())


def read() -> tuple[ray.data.Dataset, ray.data.Dataset]:
    x = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    rows = ray.data.from_items([{"id": f"{i:02}", "captions": ["a caption"], "x": row} for i, row in enumerate(x)])
    return rows, rows


def main(directory: Path, steps: int, run: str = "", address: str | None = None, min_workers: str = "0") -> None:
    start_ray(RayConfig(address=address, cpus=None if address else 2, object_store_gb=0.1))
    config = TrainConfig(
        steps=steps,
        batch_size=BATCH,
        precision="fp32",
        workers=2,
        min_workers=int(min_workers) or None,
        cpus_per_worker=1,
        log_every=1,
        validate_every=10,
        checkpoint_every=3,
    )
    fit(task_of(directory / "witness"), read, config, run or str(directory / "run"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), **dict(option.split("=", 1) for option in sys.argv[3:]))
