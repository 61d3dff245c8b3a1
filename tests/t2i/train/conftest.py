"""A task of four weights, and a reporter that keeps everything at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from t2i.train.checkpoint.run_directory import RunDirectory, checkpoint_name
from t2i.train.optim.adamw import OptimizerConfig
from t2i.train.tasks.base import Task


@pytest.fixture
def line_columns() -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    return {"id": np.arange(50).astype(str), "x": x}


@pytest.fixture
def line_task() -> Task:
    """Fits y = sum(x). Its classes are local so that they travel to Ray's workers by value."""

    @dataclass
    class LineConfig:
        lr: float = 0.05
        noise: float = 0.0

    class Line(nn.Module):
        def __init__(self, config: LineConfig) -> None:
            super().__init__()
            self.config = config
            self.layer = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.float())[:, 0]

    class LineTask(Task):
        def __init__(self, config: LineConfig) -> None:
            self.config = config
            self.on_step: Callable[[int], None] = lambda step: None

        @property
        def optimizer(self) -> OptimizerConfig:
            return OptimizerConfig(clip_norm=1.0)

        def lr(self, step: int) -> float:
            return self.config.lr

        def build(self) -> nn.Module:
            return Line(self.config)

        def batch(self, columns, rows, noise=None):
            uniform = noise.uniform(0) if noise is not None else np.zeros(len(rows))
            return {"x": torch.from_numpy(columns["x"][rows]) + self.config.noise * torch.tensor(uniform)[:, None]}

        def residual_blocks(self, model):
            return [model.layer]

        def loss(self, model, batch, step, noise):
            self.on_step(step)
            target = batch["x"].sum(1) + self.config.noise * torch.tensor(noise.uniform(1))
            loss = (model(batch["x"]) - target).square().mean()
            return loss, {"threads": torch.tensor(float(torch.get_num_threads()))}

        def validate(self, model, columns, batch_size):
            x = torch.tensor(columns["x"])
            return {"mse": (model(x) - x.sum(1)).square().mean().item()}

        def score(self, metrics):
            return metrics["mse"]

        def pictures(self, model, columns):
            return {"weights": model.layer.weight.detach().abs().clamp(0, 1).expand(3, 4, 4)}

    return LineTask(LineConfig())


@dataclass
class Recording:
    """A Reporter into a run directory, without Ray."""

    run: RunDirectory
    keep: int = 2
    losses: dict[int, float] = field(default_factory=dict)
    validations: dict[int, Mapping[str, float]] = field(default_factory=dict)
    begun_at: int = -1
    finished: bool = False

    def newest_checkpoint(self) -> Path | None:
        newest = self.run.newest_checkpoint()
        return newest and newest.local

    def begin(self, step: int) -> None:
        self.begun_at = step

    def step(self, step: int, seconds: float, waited: float) -> None:
        pass

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.losses[step] = values["loss"]

    def validation(self, step: int, metrics: Mapping[str, float], pictures: Mapping[str, Tensor]) -> None:
        self.validations[step] = metrics

    def checkpoint(self, step: int, writers: int, write: Callable[[Path], None]) -> None:
        directory = Path(self.run.path) / "written" / str(step)
        write(directory)
        self.run.put_checkpoint(directory, checkpoint_name(step), self.keep)

    def finish(self, model: nn.Module | None, metrics: Mapping[str, float]) -> None:
        self.finished = True


@pytest.fixture
def recording(tmp_path: Path) -> Callable[[], Recording]:
    """Reporters into one directory, as the successive processes of a run have them."""
    return lambda: Recording(RunDirectory(str(tmp_path / "run")))
