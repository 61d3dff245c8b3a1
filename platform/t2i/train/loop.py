"""The training loop, the same for every task and for one or many workers. It knows nothing of Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from torch import Tensor, nn

from models.errors import UserError
from models.settings import setting
from t2i.train.checkpoints import TrainState, read_checkpoint, write_checkpoint
from t2i.train.optim import EMA, build_optimizer, set_lr, trainable
from t2i.train.sampler import EpochSampler, generator
from t2i.train.tasks.base import Batch, Columns, Task


@dataclass
class TrainConfig:
    """How long, on how much, and what to keep."""

    steps: int = setting(1000, "updates in all; may be raised later to go on")
    batch_size: int = setting(64, "images of one update, over all workers")
    seed: int = setting(0, "of the initial weights, the order of the data and all noise")
    precision: str = setting("fp32", "fp32, or bf16: autocast of activations; weights and optimizer stay fp32")
    compile: bool = setting(False, "compile the model's forward with torch.compile")
    workers: int = setting(1, "data-parallel worker processes")
    cpus_per_worker: int | None = setting(None, "cores of one worker; empty shares all cores out")
    log_every: int = setting(10, "steps between scalars in the log")
    validate_every: int = setting(500, "steps between validations")
    validation_batch_size: int = setting(128, "images at once in validation")
    checkpoint_every: int = setting(500, "steps between checkpoints")
    keep_checkpoints: int = setting(2, "newest checkpoints to keep")

    def __post_init__(self) -> None:
        for field in (
            "batch_size",
            "workers",
            "log_every",
            "validate_every",
            "checkpoint_every",
            "keep_checkpoints",
        ):
            if getattr(self, field) < 1:
                raise ValueError(f"train.{field} is {getattr(self, field)}: use at least 1.")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"train.precision is {self.precision!r}: use fp32 or bf16.")
        if self.batch_size % self.workers:
            raise ValueError(f"train.batch_size is {self.batch_size}: use a multiple of train.workers, {self.workers}.")


class NonFiniteLoss(UserError):
    """The loss is NaN or infinite: going on, or saving, would only spread it."""


class Reporter(Protocol):
    """The loop's way out. Every worker calls every method at the same steps; the reporter knows which of them acts."""

    def newest_checkpoint(self) -> Path | None:
        """The newest whole checkpoint as a local directory, the same one for all workers."""

    def begin(self, step: int) -> None:
        """Training begins, or goes on, after ``step`` updates."""

    def step(self, step: int) -> None:
        """``step`` updates are done."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Training scalars, means over all workers."""

    def validation(self, step: int, metrics: Mapping[str, float], pictures: Mapping[str, Tensor]) -> None:
        """Metrics and pictures (on the first worker; elsewhere both are empty)."""

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        """Have a checkpoint written by ``write(directory)`` and kept."""

    def finish(self, model: nn.Module, metrics: Mapping[str, float]) -> None:
        """Keep the final model and its metrics."""


@dataclass(frozen=True)
class Worker:
    """Who this process is among the workers, and how a module is made to train together with theirs."""

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module


class Objective(nn.Module):
    """Forward is the task's loss, so that DistributedDataParallel's hooks run whatever methods the task calls."""

    def __init__(self, task: Task, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.task = task
        self.model = model
        self.precision = precision

    def forward(self, batch: Batch, step: int, noise: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        device = noise.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.task.loss(self.model, batch, step, noise)


class TrainLoop:
    """restore -> run -> run_step -> task.loss -> backward_and_step -> validate -> save."""

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        train: Columns,
        validation: Columns,
        reporter: Reporter,
        worker: Worker,
    ) -> None:
        self.task, self.config, self.reporter, self.worker = task, config, reporter, worker
        torch.manual_seed(config.seed)
        model = task.build().to(worker.device)
        self.state = TrainState(model, EMA(model, task.optimizer.ema_decay), build_optimizer(model, task.optimizer))
        self.sampler = EpochSampler(len(next(iter(train.values()))), config.batch_size, config.seed)
        self.train = task.prepare(train, model)
        self.validation = task.prepare(validation, model) if worker.rank == 0 else {}
        if config.compile:
            model.compile()
        self.objective = worker.wrap(Objective(task, model, config.precision))

    def run(self) -> dict[str, float]:
        """Train up to ``config.steps`` from wherever the newest checkpoint is; returns the final metrics."""
        self.restore()
        while self.state.step < self.config.steps:
            scalars = self.run_step()
            self.after_step(scalars)
        metrics = self.validate() | self._timing()
        self.reporter.finish(self.state.ema.model, metrics)
        return metrics

    def restore(self) -> None:
        """Take up the newest whole checkpoint, if there is any."""
        directory = self.reporter.newest_checkpoint()
        if directory is not None:
            read_checkpoint(directory, self.state)
        self.reporter.begin(self.state.step)

    def run_step(self) -> dict[str, Tensor]:
        """One update; its scalars are this worker's and may still be being computed."""
        begun = time.monotonic()
        step, rank, device = self.state.step, self.worker.rank, self.worker.device
        self.state.model.train()
        rows = self.sampler.rows(step, rank, self.worker.world)
        batch = self.task.batch(self.train, rows, generator("cpu", self.config.seed, step, rank, 0), training=True)
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        loss, scalars = self.objective(batch, step, generator(device, self.config.seed, step, rank, 1))
        gradient_norm = self.backward_and_step(loss)
        self.state.step += 1
        self.state.seconds += time.monotonic() - begun
        return {"loss": loss, **scalars, "gradient_norm": gradient_norm}

    def backward_and_step(self, loss: Tensor) -> Tensor:
        """Gradients, clipping, AdamW, EMA; returns the norm of the unclipped gradient."""
        state, limit = self.state, self.task.optimizer.clip_norm
        state.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trainable(state.model).values(), limit or float("inf"))
        set_lr(state.optimizer, self.task.lr(state.step))
        state.optimizer.step()
        state.ema.update(state.step)
        return norm

    def after_step(self, scalars: dict[str, Tensor]) -> None:
        """What is due: the log, a validation, a checkpoint (never of weights whose loss has not been looked at)."""
        saving = self._due(self.config.checkpoint_every)
        self.reporter.step(self.state.step)
        if saving or self._due(self.config.log_every):
            self.log(scalars)
        if self._due(self.config.validate_every) and self.state.step < self.config.steps:
            self.validate()
        if saving:
            self.save()

    def log(self, scalars: dict[str, Tensor]) -> None:
        """Report the scalars of the step just done.

        Raises:
            NonFiniteLoss: the loss or the gradient has no value.
        """
        values = mean_over_workers(scalars)
        step = self.state.step
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise NonFiniteLoss(f"the loss is {values['loss']} at step {step}: lower the learning rate.")
        self.reporter.scalars(step, values | {"lr": self.task.lr(step - 1)})

    def validate(self) -> dict[str, float]:
        """Metrics and pictures of the EMA model, by the first worker."""
        metrics: dict[str, float] = {}
        pictures: dict[str, Tensor] = {}
        if self.worker.rank == 0:
            model = self.state.ema.model
            metrics = self.task.validate(model, self.validation, self.config.validation_batch_size)
            pictures = self.task.pictures(model, self.validation)
        self.reporter.validation(self.state.step, metrics, pictures)
        return metrics

    def save(self) -> None:
        """Checkpoint the step just done."""
        config = describe(self.task, self.config)
        self.reporter.checkpoint(self.state.step, lambda directory: write_checkpoint(directory, self.state, config))

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.config.steps

    def _timing(self) -> dict[str, float]:
        step, seconds = self.state.step, self.state.seconds
        return {"step": step, "train_seconds": seconds, "seconds_per_step": seconds / max(1, step)}


def describe(task: Task, config: TrainConfig) -> dict[str, Any]:
    """What makes a run that run, as plain nested mappings."""
    plain = {"task": task.config, "train": config}
    described = {key: OmegaConf.to_container(OmegaConf.structured(part)) for key, part in plain.items()}
    return {"kind": type(task).__name__, **described}


def mean_over_workers(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """Each scalar's mean over the workers, as Python numbers."""
    values = torch.stack([value.detach().float() for value in scalars.values()])
    if dist.is_initialized():
        dist.all_reduce(values)
        values /= dist.get_world_size()
    return dict(zip(scalars, values.tolist(), strict=True))
