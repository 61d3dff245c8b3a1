"""The training loop, the same for every task and any number of workers. It does not use Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from models.checkpoint import load_weights
from models.errors import UserError
from models.gradient_scaling import gradient_scales
from t2i.config import recorded
from t2i.storage import fetch_directory
from t2i.train.checkpoint.state import Snapshot, TrainState, read_checkpoint
from t2i.train.config import TrainConfig
from t2i.train.loader.feed import Feed, Microbatch, Source
from t2i.train.noise import Noise
from t2i.train.optim.adamw import build_optimizer, clip_gradients, set_lr, trainable_parameters
from t2i.train.optim.ema import EMA
from t2i.train.optim.plateau import Plateau
from t2i.train.parallel import Worker, all_reduce_mean, recompute, strategy
from t2i.train.tasks.base import Batch, Columns, Task

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class NonFiniteLossError(UserError):
    """The loss or gradient is NaN or infinite, so the weights soon would be as well: they must not be saved."""


class Reporter(Protocol):
    """Receives what the loop produces. All workers call all methods at the same steps; the reporter says who acts."""

    def newest_checkpoint(self) -> Path | None:
        """Return a local copy of the newest complete checkpoint, the same on all workers; None if there is none."""

    def begin(self, step: int) -> None:
        """Note that training begins, or goes on, after ``step`` updates."""

    def step(self, step: int, seconds: float, waited: float) -> None:
        """Note that ``step`` updates are done; the last took ``seconds``, of which it ``waited`` for its data."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log training scalars, means over all workers."""

    def validation(self, step: int, metrics: Mapping[str, float], pictures: Mapping[str, Tensor]) -> None:
        """Show metrics and pictures float [3, H, W] in [0, 1], both empty but on the first worker."""

    def checkpoint(self, step: int, writers: int, write: Callable[[Path], None]) -> None:
        """Save a checkpoint of the files that the first ``writers`` workers write by ``write(directory)``."""

    def finish(self, model: nn.Module | None, metrics: Mapping[str, float]) -> None:
        """Save the final model, which is None but on the first worker, and its metrics."""


class Objective(nn.Module):
    """A module whose forward is the task's loss, in mixed precision.

    DDP and FSDP do their work in hooks of a module's forward: they wrap this one, so the task may use its model freely.
    """

    def __init__(self, task: Task, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.task = task
        self.model = model
        self.dtype = AUTOCAST.get(precision)

    def forward(self, batch: Batch, step: int, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss [] and scalars [] to log."""
        device = next(iter(batch.values())).device.type
        with torch.autocast(device, self.dtype, enabled=self.dtype is not None):
            return self.task.loss(self.model, batch, step, noise)


class TrainLoop:
    """Trains a task on one of the workers: restore, then for each step backward, update, log, validate and save."""

    def __init__(
        self, task: Task, config: TrainConfig, train: Source, validation: Columns, reporter: Reporter, worker: Worker
    ) -> None:
        task.check(config)
        self.task, self.config, self.reporter, self.worker = task, config, reporter, worker
        torch.manual_seed(config.seed)  # every worker begins with the same weights
        model = task.build().to(worker.device)
        self.newest_checkpoint = reporter.newest_checkpoint()
        if config.start_from and not self.newest_checkpoint:
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
        """Train up to ``config.steps`` from the newest checkpoint; return the final metrics (on the first worker)."""
        self.restore()
        while self.state.step < self.config.steps:
            begun = time.monotonic()
            scalars = self.run_step()
            self.after_step(scalars, begun)
        self.feed.close()
        averaged = self._averaged_model()
        metrics = self.validate(averaged) | self._timing()
        self.reporter.finish(averaged, metrics)
        return metrics

    def restore(self) -> None:
        """Go on from the newest checkpoint, if there is any."""
        if self.newest_checkpoint:
            read_checkpoint(self.newest_checkpoint, self.state)
        self.reporter.begin(self.state.step)

    def run_step(self) -> dict[str, Tensor]:
        """Make one update; return this worker's scalars [], which a GPU may still be computing.

        In bf16 and fp32, and without plateaus, nothing here reads a value back from the GPU: the host runs ahead of it
        and queues the next step's work. Whether the loss was finite is therefore only known in :meth:`after_step`.
        """
        state, step = self.state, self.state.step
        state.model.train()
        # Dropout draws from the global generator: seeded by the step, a resumed run draws as the killed one would have.
        torch.manual_seed(_mix_seed(self.config.seed, step, self.worker.rank))
        scalars = self.backward(self.feed.microbatches(step))
        scalars["gradient_norm"] = self.update()
        state.step += 1
        if self.config.plateau.enabled:
            # Every worker must decide on the same number, or their learning rates would part.
            state.plateau.observe(all_reduce_mean({"loss": scalars["loss"]})["loss"].item())
        return scalars

    def backward(self, microbatches: list[Microbatch]) -> dict[str, Tensor]:
        """Compute the gradient, averaged over microbatches and workers; return this worker's mean scalars []."""
        scales = self.state.scales
        self.state.optimizer.zero_grad()
        logged: list[dict[str, Tensor]] = []
        for number, microbatch in enumerate(self._on_device(microbatches), start=1):
            with self.strategy.gradients(self.objective, last=number == len(microbatches)):
                loss, scalars = self.objective(microbatch.batch, self.state.step, microbatch.noise)
                weighted = loss / len(microbatches)
                (scales.scale_loss(weighted) if scales else weighted).backward()
            logged.append({"loss": loss.detach(), **scalars})
        return {name: torch.stack([each[name].detach().float() for each in logged]).mean() for name in logged[0]}

    def update(self) -> Tensor:
        """Unscale and clip the gradient, step AdamW, update scales and EMA; return the norm [] before clipping."""
        state, limit = self.state, self.task.optimizer.clip_norm
        if state.scales:
            state.scales.unscale()
        norm = clip_gradients(trainable_parameters(state.model).values(), limit)
        set_lr(state.optimizer, self.lr(state.step))
        state.ema.before_step()
        state.optimizer.step()
        if state.scales:
            state.scales.update()
        state.ema.update(state.step)
        return norm

    def lr(self, step: int) -> float:
        """Return the learning rate: the task's, reduced by the plateaus so far."""
        return self.task.lr(step) * self.state.plateau.factor

    def after_step(self, scalars: dict[str, Tensor], begun: float) -> None:
        """Log, validate and save, each if it is due; ``begun`` is when the step began, by the monotonic clock.

        The order matters. Scalars are read first, also for a checkpoint alone: a loss that is not finite ends the run
        before its weights are saved. Reading waits for the GPU, so the clock stops after it; validating and saving do
        not count as training. The validation comes before the checkpoint, which its score belongs to.
        """
        checkpoint_due = self._due(self.config.checkpoint_every)
        values = self.read_scalars(scalars) if checkpoint_due or self._due(self.config.log_every) else None
        seconds = time.monotonic() - begun
        self.state.seconds += seconds
        self.reporter.step(self.state.step, seconds, self.feed.waited)
        if values:
            self.reporter.scalars(self.state.step, values)
        if self._due(self.config.validate_every) and self.state.step < self.config.steps:
            self.validate(self._averaged_model())
        if checkpoint_due:
            self.save()

    def read_scalars(self, scalars: dict[str, Tensor]) -> dict[str, float]:
        """Return the scalars of the step just done as means over all workers, with lr and gradient scales.

        Waits for the device.

        Raises:
            NonFiniteLossError: the loss or the gradient's norm is NaN or infinite.
        """
        values = {name: value.item() for name, value in all_reduce_mean(scalars).items()}
        step = self.state.step
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise NonFiniteLossError(f"the loss is {values['loss']} at step {step}: lower the learning rate.")
        scales = self.state.scales.named() if self.state.scales else {}
        return values | {"lr": self.lr(step - 1)} | {f"scale/{name}": scale for name, scale in scales.items()}

    def validate(self, model: nn.Module | None) -> dict[str, float]:
        """Return and report metrics, and report pictures, of the averaged ``model``; nothing where that is None."""
        metrics: dict[str, float] = {}
        pictures: dict[str, Tensor] = {}
        if model is not None:
            metrics = self.task.validate(model, self.validation, self.config.validation_batch_size)
            pictures = self.task.pictures(model, self.validation)
        self.reporter.validation(self.state.step, metrics, pictures)
        return metrics

    def save(self) -> None:
        """Copy the state after the step just done, and have the copy saved in the background."""
        rank, writers = self.worker.rank, self.strategy.writers
        snapshot = Snapshot.of(self.state, run_config(self.task, self.config), rank, writers)
        self.reporter.checkpoint(self.state.step, writers, lambda directory: snapshot.write(directory, rank, writers))

    def _averaged_model(self) -> nn.Module | None:
        """Return the whole EMA model on the first worker, None on others."""
        return self.strategy.gather_ema(self.state.ema, self.task.build)

    def _on_device(self, microbatches: list[Microbatch]) -> list[Microbatch]:
        """Return the microbatches on the device, with normalisers that are means over all microbatches and workers."""
        device = self.worker.device
        counts = [self.task.normalisers(microbatch.batch) for microbatch in microbatches]
        means = {name: torch.tensor(np.mean([count[name] for count in counts])) for name in counts[0]}
        shared = all_reduce_mean({name: value.to(device) for name, value in means.items()})

        def moved(batch: Batch) -> Batch:
            return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()} | shared

        return [Microbatch(moved(microbatch.batch), microbatch.noise) for microbatch in microbatches]

    def _due(self, every: int) -> bool:
        """Return whether something that happens ``every`` so many steps, and after the last one, happens now."""
        return self.state.step % every == 0 or self.state.step == self.config.steps

    def _timing(self) -> dict[str, float]:
        step, seconds = self.state.step, self.state.seconds
        return {"step": step, "train_seconds": seconds, "seconds_per_step": seconds / max(1, step)}


def run_config(task: Task, config: TrainConfig) -> dict[str, Any]:
    """Return the kind of task and both configurations as plain nested mappings, to be saved with a run."""
    return {"kind": type(task).__name__, "task": recorded(task.config), "train": recorded(config)}


def _mix_seed(*words: int) -> int:
    """Return a seed of 63 bits that depends on all of ``words``."""
    return int(np.random.SeedSequence(list(words)).generate_state(1, np.uint64)[0] >> np.uint64(1))
