"""What runs inside a Ray Train worker: the loop, and its reporter to Ray, to the run directory and to the driver."""

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
from t2i.logs import get_logger
from t2i.train.checkpoint.folder import CheckpointNotSaved, saving
from t2i.train.checkpoint.run_directory import RunDirectory, checkpoint_name
from t2i.train.config import TrainConfig
from t2i.train.loader.feed import Source
from t2i.train.loop import TrainLoop
from t2i.train.monitor.peak_flops import peak_flops
from t2i.train.monitor.progress import StepProgress, poll_seconds
from t2i.train.monitor.watch import Watch
from t2i.train.parallel import Worker, all_reduce_mean
from t2i.train.tasks.base import Task
from t2i.train.tasks.work import work_of_step

Write = Callable[[Path], None]


@dataclass(frozen=True)
class Assignment:
    """What a worker is sent; the data sets are references into the object store."""

    task: Task
    config: TrainConfig
    run: str
    train: Source
    validation: ray.ObjectRef
    threads: int


def train_worker(settings: dict[str, Assignment]) -> None:
    """The function that every worker runs. What the user must mend ends it quietly: Ray would only try again."""
    assignment = settings["assignment"]
    logging.getLogger().setLevel(logging.WARNING)  # Ray Train announces every report there
    torch.set_num_threads(assignment.threads)
    torch.set_flush_denormal(True)  # relaxed samples at a low temperature are full of them: 3 x slower on a CPU
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), context.get_local_world_size(), get_device())
    reporter = RayReporter(assignment, worker)
    validation = ray.get(assignment.validation)
    try:
        TrainLoop(assignment.task, assignment.config, assignment.train, validation, reporter, worker).run()
    except UserError as error:
        RunDirectory(assignment.run).write_progress({"error": str(error)})


class RayReporter:
    """The loop's Reporter: checkpoints by ``ray.train.report`` on every worker, all else by the first worker alone."""

    def __init__(self, assignment: Assignment, worker: Worker) -> None:
        self._assignment, self._config, self._worker = assignment, assignment.config, worker
        self._run = RunDirectory(assignment.run)
        self._first = worker.rank == 0
        self._progress = self._run.progress_writer() if self._first else None
        self._next_progress = 0.0
        self._watch: Watch | None = None
        self._attempt = ""
        self._loss: float | None = None
        self._scored: tuple[int, float] | None = None
        self._saved = threading.Event()
        self._saved.set()

    def newest_checkpoint(self) -> Path | None:
        newest = self._run.newest_checkpoint() if self._first else None
        name, self._attempt = broadcast_from_rank_zero((newest and newest.name, uuid.uuid4().hex[:8]))
        if newest:
            return newest.local
        return None if name is None else self._run.fetch_checkpoint(name)

    def begin(self, step: int) -> None:
        if self._first:
            config, task = self._config, self._assignment.task
            work = work_of_step(task.config, config.batch_size)
            peak = peak_flops(self._worker.device, config.precision) * self._worker.world
            floor = MIN_SCALE if config.precision == "fp16" else None
            self._watch = Watch(self._run, step, type(task).__name__, work, peak, config, floor)

    def step(self, step: int, seconds: float, waited: float) -> None:
        if self._watch:
            self._watch.step(seconds, waited)
        now = time.monotonic()
        if self._progress and now >= self._next_progress:
            self._next_progress = now + poll_seconds(self._run)
            self._progress.put(asdict(StepProgress(step, self._loss)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._loss = values["loss"]
        if self._watch:
            self._watch.scalars(step, values)

    def validation(self, step: int, metrics: Mapping[str, float], pictures: Mapping[str, Tensor]) -> None:
        if self._watch:
            self._watch.validation(step, metrics, pictures)
            self._scored = (step, self._assignment.task.score(metrics))

    def checkpoint(self, step: int, writers: int, write: Write) -> None:
        """Write and copy in the background. While any worker still does so for the one before, this one is left out,
        unless it is the last: a slow store costs checkpoints, never memory or time.

        Nothing is reported then: Ray Train takes in two reports a second, and saves what belongs to one in its turn.
        """
        if step == self._config.steps:
            self._saved.wait()
        if not self._all_have_saved():
            if self._first:
                get_logger("train").warning("step %d: no checkpoint, the one before is still being saved", step)
            return
        checkpoint = None
        if self._worker.rank < writers:
            self._saved.clear()
            checkpoint = Checkpoint.from_directory(tempfile.mkdtemp(prefix="t2i-checkpoint-"))
        metric = self._scored[1] if self._scored and self._scored[0] == step else None
        ray.train.report(
            {"step": step, "loss": self._loss},
            checkpoint=checkpoint,
            checkpoint_dir_name=checkpoint_name(step, self._attempt if writers > 1 else None),
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=partial(self._save, writers, write, metric),
        )

    def _all_have_saved(self) -> bool:
        saved = torch.tensor(float(self._saved.is_set()), device=self._worker.device)
        return all_reduce_mean({"saved": saved})["saved"].item() == 1.0

    def finish(self, model: nn.Module | None, metrics: Mapping[str, float]) -> None:
        if self._watch and self._progress and model is not None:
            self._watch.close()
            with tempfile.TemporaryDirectory() as directory:
                self._run.put(save_model(directory, model), "model")
            self._run.finish(metrics)
            self._progress.put(asdict(StepProgress(int(metrics["step"]), self._loss)))
            self._progress.close()

    def _save(self, writers: int, write: Write, metric: float | None, checkpoint: Checkpoint, name: str) -> Checkpoint:
        """In a thread of Ray Train's, which deletes the local directory afterwards. A failure costs a checkpoint."""
        directory, rank, keep = Path(checkpoint.path), self._worker.rank, self._config.keep_checkpoints
        try:
            with saving(name, directory):
                write(directory)
            self._run.put_checkpoint(directory, name, keep, metric, rank, writers)
            if self._watch:
                self._watch.checkpoint()
        except CheckpointNotSaved as error:
            get_logger("train").warning("%s", error)
        finally:
            self._saved.set()
        return Checkpoint(f"{self._run.checkpoints.path}/{name}", self._run.filesystem)
