"""What runs inside a Ray Train worker: the loop, and its reporter to Ray, to the run directory and to the driver."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointUploadMode
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import get_device, prepare_model
from torch import Tensor, nn

from models.checkpoint import save_model
from models.errors import UserError
from t2i.train.loop import TrainConfig, TrainLoop, Worker
from t2i.train.progress import Progress, poll_seconds
from t2i.train.recorder import Recorder
from t2i.train.run_directory import RunDirectory, checkpoint_name
from t2i.train.tasks.base import Task


@dataclass(frozen=True)
class Assignment:
    """What a worker is sent; the data sets are references into the object store, one copy on each node."""

    task: Task
    config: TrainConfig
    run: str
    train: ray.ObjectRef
    validation: ray.ObjectRef
    threads: int


def train_worker(settings: dict[str, Assignment]) -> None:
    """The function that every worker runs. What the user must mend ends it quietly: Ray would only try again."""
    assignment = settings["assignment"]
    logging.getLogger().setLevel(logging.WARNING)  # Ray Train announces every report there
    torch.set_num_threads(assignment.threads)
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), get_device(), _wrap)
    train, validation = ray.get([assignment.train, assignment.validation])
    reporter = RayReporter(assignment, worker.rank)
    try:
        TrainLoop(assignment.task, assignment.config, train, validation, reporter, worker).run()
    except UserError as error:
        RunDirectory(assignment.run).write_progress({"error": str(error)})


def _wrap(objective: nn.Module) -> nn.Module:
    """DistributedDataParallel where there is more than one worker."""
    return prepare_model(objective, parallel_strategy_kwargs={"forward_sync_buffers": False})


class RayReporter:
    """The loop's Reporter: checkpoints by ``ray.train.report`` on every worker, all else by the first worker alone."""

    def __init__(self, assignment: Assignment, rank: int) -> None:
        self._run = RunDirectory(assignment.run)
        self._keep = assignment.config.keep_checkpoints
        self._first = rank == 0
        self._loss: float | None = None
        self._next_progress = 0.0
        self._recorder: Recorder | None = None
        self._local = Path(self._run.path) if self._run.is_local else Path(tempfile.mkdtemp(prefix="t2i-run-"))

    def newest_checkpoint(self) -> Path | None:
        name = broadcast_from_rank_zero(self._run.newest_checkpoint() if self._first else None)
        return None if name is None else self._run.fetch_checkpoint(name)

    def begin(self, step: int) -> None:
        if self._first:
            self._recorder = Recorder(self._local, step)

    def step(self, step: int) -> None:
        now = time.monotonic()
        if self._first and now >= self._next_progress:
            self._next_progress = now + poll_seconds(self._run)
            self._run.write_progress(asdict(Progress(step, self._loss)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._loss = values["loss"]
        if self._recorder:
            self._recorder.scalars("train", step, values)

    def validation(self, step: int, metrics: Mapping[str, float], pictures: Mapping[str, Tensor]) -> None:
        if self._recorder:
            self._recorder.scalars("validation", step, metrics)
            self._recorder.pictures(step, pictures)
            self._upload_records()

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        """Written now, copied (and deleted here) in the background; a copy that is cut short has no manifest."""
        checkpoint = None
        if self._first:
            directory = Path(tempfile.mkdtemp(prefix="t2i-checkpoint-"))
            write(directory)
            checkpoint = Checkpoint.from_directory(directory)
        ray.train.report(
            {"step": step, "loss": self._loss},
            checkpoint=checkpoint,
            checkpoint_dir_name=checkpoint_name(step),
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=self._upload,
        )

    def finish(self, model: nn.Module, metrics: Mapping[str, float]) -> None:
        if self._first:
            with tempfile.TemporaryDirectory() as directory:
                self._run.put(save_model(directory, model), "model")
            self._run.finish(metrics)
            self._run.write_progress(asdict(Progress(int(metrics["step"]), self._loss)))

    def _upload(self, checkpoint: Checkpoint, name: str) -> Checkpoint:
        path = self._run.put_checkpoint(Path(checkpoint.path), name, self._keep)
        return Checkpoint(path, self._run.filesystem)

    def _upload_records(self) -> None:
        if self._recorder:
            self._recorder.flush()
        if not self._run.is_local:
            for name in ("logs", "pictures"):
                self._run.put(self._local / name, name)
