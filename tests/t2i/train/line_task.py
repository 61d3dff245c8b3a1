"""A task of five weights, and a reporter that keeps all that it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from t2i.train.checkpoint.run_directory import RunDirectory, checkpoint_name
from t2i.train.noise import Noise
from t2i.train.optim.adamw import OptimizerConfig
from t2i.train.tasks.base import Batch, Columns, Headline, Task, Work


@dataclass
class LineConfig:
    lr: float = 0.05
    noise: float = 0.0


class Line(nn.Module):
    """Remembers the dtype that its layer has computed in."""

    def __init__(self, config: LineConfig) -> None:
        super().__init__()
        self.config = config
        self.layer = nn.Linear(4, 1)
        self.computed_in: torch.dtype | None = None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.float())[:, 0]
        self.computed_in = y.dtype
        return y


def ignore_step(step: int) -> None:
    """What a LineTask does at a step unless told otherwise."""


class LineTask(Task):
    """Fits y = sum(x), and calls ``on_step`` in each loss."""

    headline = Headline("mse", higher_is_better=False)

    def __init__(self, config: LineConfig) -> None:
        self.config: LineConfig = config
        self.on_step: Callable[[int], None] = ignore_step

    @property
    def optimizer(self) -> OptimizerConfig:
        return OptimizerConfig(clip_norm=1.0)

    def lr(self, step: int) -> float:  # noqa: ARG002  constant
        return self.config.lr

    def work(self, batch_size: int, recomputed: bool = False) -> Work:  # noqa: ARG002  not counted
        return Work(batch_size)

    def build(self) -> nn.Module:
        return Line(self.config)

    def batch(self, columns: Columns, rows: np.ndarray, noise: Noise | None = None) -> Batch:
        uniform = noise.uniform(0) if noise is not None else np.zeros(len(rows))
        return {"x": torch.from_numpy(columns["x"][rows]) + self.config.noise * torch.tensor(uniform)[:, None]}

    def residual_blocks(self, model: nn.Module) -> list[nn.Module]:
        assert isinstance(model, Line)
        return [model.layer]

    def loss(self, model: nn.Module, batch: Batch, step: int, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        self.on_step(step)
        target = batch["x"].sum(1) + self.config.noise * torch.tensor(noise.uniform(1))
        loss = (model(batch["x"]) - target).square().mean()
        return loss, {"threads": torch.tensor(float(torch.get_num_threads()))}

    def validate(self, model: nn.Module, columns: Columns, batch_size: int) -> dict[str, float]:  # noqa: ARG002  small
        x = torch.tensor(columns["x"])
        return {"mse": (model(x) - x.sum(1)).square().mean().item()}

    def pictures(self, model: nn.Module, columns: Columns) -> dict[str, Tensor]:  # noqa: ARG002  draws its weights
        assert isinstance(model, Line)
        return {"weights": model.layer.weight.detach().abs().clamp(0, 1).expand(3, 4, 4)}


@dataclass
class RecordingReporter:
    """A Reporter into a run directory, without Ray."""

    run: RunDirectory
    keep: int = 2
    losses: dict[int, float] = field(default_factory=dict)
    validations: dict[int, Mapping[str, float]] = field(default_factory=dict)
    begun_at: int = -1
    is_finished: bool = False

    def newest_checkpoint(self) -> Path | None:
        newest = self.run.newest_checkpoint()
        return newest.local if newest else None

    def begin(self, step: int) -> None:
        self.begun_at = step

    def step(self, step: int, seconds: float, waited: float) -> None:
        pass

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.losses[step] = values["loss"]

    def validation(
        self,
        step: int,
        metrics: Mapping[str, float],
        pictures: Mapping[str, Tensor],  # noqa: ARG002  not kept
    ) -> None:
        self.validations[step] = metrics

    def checkpoint(self, step: int, writers: int, write: Callable[[Path], None]) -> None:  # noqa: ARG002  always one
        directory = Path(self.run.path) / "written" / str(step)
        write(directory)
        self.run.put_checkpoint(directory, checkpoint_name(step), self.keep)

    def finish(self, model: nn.Module | None, metrics: Mapping[str, float]) -> None:  # noqa: ARG002  not kept
        self.is_finished = True


Recorders = Callable[[], RecordingReporter]
"""Makes reporters into one directory, as the successive processes of a run have them."""
