"""A Ray Train worker: it runs the loop, and reports to Ray, to the run directory and to the driver."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointUploadMode
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import get_device
from torch import Tensor, nn

from models.checkpoint import save_model
from models.errors import UserError
from models.gradient_scaling import MIN_SCALE
from models.processor import reuse_only_code_for_this_processor
from t2i.logs import get_logger
from t2i.storage import arrow_filesystem
from t2i.train.allocator import keep_freed_memory
from t2i.train.checkpoint.folder import CheckpointNotSavedError, as_not_saved_error
from t2i.train.checkpoint.run_directory import RunDirectory, checkpoint_name
from t2i.train.config import TrainConfig
from t2i.train.failures import StepFailedError
from t2i.train.loader.feed import Source
from t2i.train.loop import TrainLoop
from t2i.train.monitor.peak_flops import peak_flops
from t2i.train.monitor.progress import StepProgress, poll_seconds
from t2i.train.monitor.watch import Watch
from t2i.train.parallel import Worker, all_reduce_mean
from t2i.train.tasks.base import Columns, Task

Write = Callable[[Path], None]
"""Writes a worker's files of a checkpoint into a local directory."""


@dataclass(frozen=True)
class WorkerInput:
    """All that a worker is sent; data sets are sent as references into the object store."""

    task: Task
    config: TrainConfig
    run: str
    train: Source
    validation: ray.ObjectRef[Columns]
    threads: int


def train_worker(settings: dict[str, WorkerInput]) -> None:
    """Run the training loop in this worker.

    A UserError is not raised but left in ``progress.json`` for the driver: Ray would restart the worker, in vain.

    Raises:
        StepFailedError: any other error; Ray restarts the workers unless it comes again at the same step.
    """
    worker_input = settings["worker_input"]
    logging.getLogger().setLevel(logging.WARNING)  # Ray Train logs every report there
    torch.set_num_threads(worker_input.threads)
    keep_freed_memory()
    torch.set_flush_denormal(True)  # relaxed samples at a low tau are full of denormals, 3 x slower on a CPU
    reuse_only_code_for_this_processor()
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), context.get_local_world_size(), get_device())
    reporter = RayReporter(worker_input, worker)
    validation = ray.get(worker_input.validation)
    loop = None
    try:
        loop = TrainLoop(worker_input.task, worker_input.config, worker_input.train, validation, reporter, worker)
        loop.run()
    except UserError as error:
        RunDirectory(worker_input.run).write_progress({"error": str(error)})
    except Exception as error:
        raise StepFailedError(loop.state.step if loop else None, type(error).__name__, str(error)) from error


class RayReporter:
    """The loop's Reporter: every worker saves its files of a checkpoint, the first one does all else."""

    def __init__(self, worker_input: WorkerInput, worker: Worker) -> None:
        self._task, self._config, self._worker = worker_input.task, worker_input.config, worker
        self._run = RunDirectory(worker_input.run)
        self._first = worker.rank == 0
        self._progress = self._run.progress_writer() if self._first else None
        self._next_progress = 0.0
        self._watch: Watch | None = None
        self._attempt = ""
        self._loss: float | None = None
        self._newest_score: tuple[int, float] | None = None  # and the step it belongs to
        self._save_done = threading.Event()  # whether this worker's previous save has ended
        self._save_done.set()

    def newest_checkpoint(self) -> Path | None:
        """Return a local copy of the newest complete checkpoint, which the first worker chooses for all of them."""
        newest = self._run.newest_checkpoint() if self._first else None
        name, self._attempt = broadcast_from_rank_zero((newest and newest.name, uuid.uuid4().hex[:8]))
        if newest:
            return newest.local
        return None if name is None else self._run.fetch_checkpoint(name)

    def begin(self, step: int) -> None:
        """Begin to watch the run."""
        if self._first:
            config, work = self._config, self._task.work(self._config.batch_size)
            peak = peak_flops(self._worker.device, config.precision) * self._worker.world
            floor = MIN_SCALE if config.precision == "fp16" else None
            self._watch = Watch(self._run, step, self._task, work, peak, config, floor)

    def step(self, step: int, seconds: float, waited: float) -> None:
        """Count a step, and write the driver's progress if it is time."""
        if self._watch:
            self._watch.step(seconds, waited)
        now = time.monotonic()
        if self._progress and now >= self._next_progress:
            self._next_progress = now + poll_seconds(self._run)
            self._progress.put(asdict(StepProgress(step, self._loss)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Show a line of the log."""
        self._loss = values["loss"]
        if self._watch:
            self._watch.scalars(step, values)

    def validation(self, step: int, metrics: Mapping[str, float], pictures: Mapping[str, Tensor]) -> None:
        """Show a validation, and remember its score for the checkpoint of the same step."""
        if self._watch:
            self._watch.validation(step, metrics, pictures)
            self._newest_score = (step, self._task.score(metrics))

    def checkpoint(self, step: int, writers: int, write: Write) -> None:
        """Save a checkpoint in the background, unless the previous one is still being saved by any worker.

        ``write`` holds a copy of the state in memory. With a slow store these would queue up, so there is one at a
        time: a checkpoint that is due too early is left out, and only the last of the run is waited for.

        Of one left out nothing is reported to Ray either. It takes in two reports a second, in order with their
        uploads, so that reports without a checkpoint would only delay those with one. Ray expects every report from all
        workers: they agree by an all-reduce, since a store may be slow for one of them alone.
        """
        if step == self._config.steps:
            self._save_done.wait()
        if not self._all_saves_done():
            if self._first:
                get_logger("train").warning("step %d: no checkpoint, the one before is still being saved", step)
            return
        checkpoint = None
        if self._worker.rank < writers:
            self._save_done.clear()
            checkpoint = Checkpoint.from_directory(tempfile.mkdtemp(prefix="t2i-checkpoint-"))
        metric = self._newest_score[1] if self._newest_score and self._newest_score[0] == step else None
        ray.train.report(
            {"step": step, "loss": self._loss},
            checkpoint=checkpoint,
            checkpoint_dir_name=checkpoint_name(step, self._attempt if writers > 1 else None),
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=partial(self._save, writers, write, metric),
        )

    def _all_saves_done(self) -> bool:
        """Return whether no worker is still saving its files of the previous checkpoint."""
        done = torch.tensor(float(self._save_done.is_set()), device=self._worker.device)
        return all_reduce_mean({"done": done})["done"].item() == 1.0

    def finish(self, model: nn.Module | None, metrics: Mapping[str, float]) -> None:
        """Save the final model, then the metrics, which mark the run as finished."""
        if self._watch and self._progress and model is not None:
            self._watch.close()
            with tempfile.TemporaryDirectory() as directory:
                self._run.put(save_model(directory, model), "model")
            self._run.finish(metrics)
            self._progress.put(asdict(StepProgress(int(metrics["step"]), self._loss)))
            self._progress.close()

    def _save(self, writers: int, write: Write, metric: float | None, checkpoint: Checkpoint, name: str) -> Checkpoint:
        """Write and copy this worker's files; if that fails, warn and go on without this checkpoint.

        Called by Ray Train in a thread of its own; it deletes the local directory afterwards.
        """
        directory, rank, keep = Path(checkpoint.path), self._worker.rank, self._config.keep_checkpoints
        try:
            with as_not_saved_error(name, directory):
                write(directory)
            self._run.put_checkpoint(directory, name, keep, metric, rank, writers)
            if self._watch:
                self._watch.checkpoint()
        except CheckpointNotSavedError as error:
            get_logger("train").warning("%s", error)
        finally:
            self._save_done.set()
        return Checkpoint(f"{self._run.checkpoints.path}/{name}", arrow_filesystem(self._run.filesystem))
