"""The training loop, the same for every task and for one or many workers. It knows nothing of Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from models.checkpoint import load_weights
from models.errors import UserError
from models.gradient_scaling import gradient_scales
from t2i.storage import fetch_directory
from t2i.train.checkpoint.state import Snapshot, TrainState, read_checkpoint
from t2i.train.config import TrainConfig
from t2i.train.loader.feed import Feed, Share, Source
from t2i.train.noise import Noise
from t2i.train.optim.adamw import build_optimizer, clip_gradients, set_lr, trainable
from t2i.train.optim.ema import EMA
from t2i.train.optim.plateau import Plateau
from t2i.train.parallel import Worker, all_reduce_mean, recompute, strategy
from t2i.train.tasks.base import Batch, Columns, Task

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class NonFiniteLoss(UserError):
    """The loss is NaN or infinite: going on, or saving, would only spread it."""


class Reporter(Protocol):
    """The loop's way out. Every worker calls every method at the same steps; the reporter knows which of them acts."""

    def newest_checkpoint(self) -> Path | None:
        """The newest whole checkpoint as a local directory, the same one for all workers."""

    def begin(self, step: int) -> None:
        """Training begins, or goes on, after ``step`` updates."""

    def step(self, step: int, seconds: float, waited: float) -> None:
        """``step`` updates are done; the last took ``seconds``, of which it ``waited`` for its data."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Training scalars, means over all workers."""

    def validation(self, step: int, metrics: Mapping[str, float], pictures: Mapping[str, Tensor]) -> None:
        """Metrics and pictures (on the first worker; elsewhere both are empty)."""

    def checkpoint(self, step: int, writers: int, write: Callable[[Path], None]) -> None:
        """Have the first ``writers`` workers' parts written, each by its ``write(directory)``, and kept."""

    def finish(self, model: nn.Module | None, metrics: Mapping[str, float]) -> None:
        """Keep the final model (on the first worker) and its metrics."""


class Objective(nn.Module):
    """Forward is the task's loss, so that the hooks of data-parallel modules run whatever methods the task calls."""

    def __init__(self, task: Task, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.task = task
        self.model = model
        self.dtype = AUTOCAST.get(precision)

    def forward(self, batch: Batch, step: int, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        device = next(iter(batch.values())).device.type
        with torch.autocast(device, self.dtype, enabled=self.dtype is not None):
            return self.task.loss(self.model, batch, step, noise)


class TrainLoop:
    """restore -> run -> run_step -> task.loss -> backward -> update -> validate -> save."""

    def __init__(
        self, task: Task, config: TrainConfig, train: Source, validation: Columns, reporter: Reporter, worker: Worker
    ) -> None:
        task.check(config)
        self.task, self.config, self.reporter, self.worker = task, config, reporter, worker
        torch.manual_seed(config.seed)
        model = task.build().to(worker.device)
        self.newest = reporter.newest_checkpoint()
        if config.start_from and not self.newest:
            load_weights(model, fetch_directory(config.start_from))
        self.feed = Feed(task, model, train, config, worker.rank, worker.world, worker.device.type == "cuda")
        self.validation = task.prepare(validation, model) if worker.rank == 0 else {}
        blocks = task.residual_blocks(model)
        if config.recompute:
            recompute(blocks)
        if config.compile:
            model.compile()
        self.strategy = strategy(config, worker)
        self.objective = self.strategy.place(Objective(task, model, config.precision), blocks)
        ema = EMA(model, task.optimizer.ema_decay, task.optimizer.ema_every)
        optimizer = build_optimizer(model, task.optimizer)
        scales = (
            gradient_scales(model, all_reduce_min=self.strategy.all_reduce_min) if config.precision == "fp16" else None
        )
        self.state = TrainState(model, ema, optimizer, Plateau(config.plateau), scales, self.strategy.compression)

    def run(self) -> dict[str, float]:
        """Train up to ``config.steps`` from wherever the newest checkpoint is; returns the final metrics."""
        self.restore()
        while self.state.step < self.config.steps:
            begun = time.monotonic()
            scalars = self.run_step()
            self.after_step(scalars, begun)
        self.feed.close()
        averaged = self._averaged()
        metrics = self.validate(averaged) | self._timing()
        self.reporter.finish(averaged, metrics)
        return metrics

    def restore(self) -> None:
        """Take up the newest whole checkpoint, if there is any."""
        if self.newest:
            read_checkpoint(self.newest, self.state)
        self.reporter.begin(self.state.step)

    def run_step(self) -> dict[str, Tensor]:
        """One update; its scalars are this worker's and may still be being computed."""
        state, step = self.state, self.state.step
        state.model.train()
        torch.manual_seed(_key(self.config.seed, step, self.worker.rank))  # for dropout, which asks nobody
        scalars = self.backward(self.feed.share(step))
        scalars["gradient_norm"] = self.update()
        state.step += 1
        if self.config.plateau.enabled:
            state.plateau.observe(all_reduce_mean({"loss": scalars["loss"]})["loss"].item())
        return scalars

    def backward(self, share: Share) -> dict[str, Tensor]:
        """The gradient of this worker's share, and with its last part the other workers'; mean scalars of the parts."""
        scales = self.state.scales
        self.state.optimizer.zero_grad()
        batches = self._on_device(share.batches)
        parts: list[dict[str, Tensor]] = []
        for number, (batch, noise) in enumerate(zip(batches, share.noise, strict=True), start=1):
            with self.strategy.gradients(self.objective, last=number == len(batches)):
                loss, scalars = self.objective(batch, self.state.step, noise)
                loss_of_part = loss / len(batches)
                (scales.scale_loss(loss_of_part) if scales else loss_of_part).backward()
            parts.append({"loss": loss.detach(), **scalars})
        return {name: torch.stack([part[name].detach().float() for part in parts]).mean() for name in parts[0]}

    def update(self) -> Tensor:
        """Unscaling, clipping, AdamW, EMA; returns the norm of the unclipped gradient."""
        state, limit = self.state, self.task.optimizer.clip_norm
        if state.scales:
            state.scales.unscale()
        norm = clip_gradients(trainable(state.model).values(), limit)
        set_lr(state.optimizer, self.lr(state.step))
        state.ema.before_step()
        state.optimizer.step()
        if state.scales:
            state.scales.update()
        state.ema.update(state.step)
        return norm

    def lr(self, step: int) -> float:
        """The task's learning rate, and what plateaus have left of it."""
        return self.task.lr(step) * self.state.plateau.factor

    def after_step(self, scalars: dict[str, Tensor], begun: float) -> None:
        """What is due: the log, a validation, a checkpoint (never of weights whose loss has not been looked at)."""
        saving = self._due(self.config.checkpoint_every)
        values = self.read_scalars(scalars) if saving or self._due(self.config.log_every) else None
        seconds = time.monotonic() - begun
        self.state.seconds += seconds
        self.reporter.step(self.state.step, seconds, self.feed.waited)
        if values:
            self.reporter.scalars(self.state.step, values)
        if self._due(self.config.validate_every) and self.state.step < self.config.steps:
            self.validate(self._averaged())
        if saving:
            self.save()

    def read_scalars(self, scalars: dict[str, Tensor]) -> dict[str, float]:
        """The scalars of the step just done, means over all workers; waits for the device.

        Raises:
            NonFiniteLoss: the loss or the gradient has no value.
        """
        values = {name: value.item() for name, value in all_reduce_mean(scalars).items()}
        step = self.state.step
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise NonFiniteLoss(f"the loss is {values['loss']} at step {step}: lower the learning rate.")
        scales = self.state.scales.named() if self.state.scales else {}
        return values | {"lr": self.lr(step - 1)} | {f"scale/{name}": scale for name, scale in scales.items()}

    def validate(self, model: nn.Module | None) -> dict[str, float]:
        """Metrics and pictures of the averaged ``model``, by the first worker, which alone has it."""
        metrics: dict[str, float] = {}
        pictures: dict[str, Tensor] = {}
        if model is not None:
            metrics = self.task.validate(model, self.validation, self.config.validation_batch_size)
            pictures = self.task.pictures(model, self.validation)
        self.reporter.validation(self.state.step, metrics, pictures)
        return metrics

    def save(self) -> None:
        """Checkpoint the step just done: copied now, written in the background."""
        rank, writers = self.worker.rank, self.strategy.writers
        snapshot = Snapshot.of(self.state, describe(self.task, self.config), rank, writers)
        self.reporter.checkpoint(self.state.step, writers, lambda directory: snapshot.write(directory, rank, writers))

    def _averaged(self) -> nn.Module | None:
        """The EMA model in one piece on the first worker."""
        return self.strategy.full_tensor(self.state.ema, self.task.build)

    def _on_device(self, batches: list[Batch]) -> list[Batch]:
        """The micro-batches on the device, each with what the task divides by: its mean over all parts and workers."""
        counts = [self.task.normalisers(batch) for batch in batches]
        sums = {name: torch.tensor(np.mean([count[name] for count in counts])) for name in counts[0]}
        shared = all_reduce_mean({name: value.to(self.worker.device) for name, value in sums.items()})
        return [
            {name: tensor.to(self.worker.device, non_blocking=True) for name, tensor in batch.items()} | shared
            for batch in batches
        ]

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


def _key(*words: int) -> int:
    return int(np.random.SeedSequence(list(words)).generate_state(1, np.uint64)[0] >> np.uint64(1))
