"""Train a task on Ray: the only file that names the TorchTrainer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.data import Dataset
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.callback import RayTrainCallback

from models.errors import UserError
from t2i.data import Shards, load_columns
from t2i.logs import get_logger
from t2i.storage import absolute
from t2i.train.checkpoint.run_directory import CHECKPOINTS, RunDirectory
from t2i.train.config import TrainConfig
from t2i.train.loader.ray_sources import source_of
from t2i.train.loop import describe
from t2i.train.monitor.progress import shown
from t2i.train.tasks.base import Task
from t2i.train.worker import Assignment, train_worker


@dataclass(frozen=True)
class FitResult:
    """The final validation metrics, step and timings; and where the model directory is."""

    metrics: Mapping[str, Any]
    model: str


def print_result(result: FitResult) -> None:
    """The final metrics, one a line, and where the model is."""
    for name, value in result.metrics.items():
        print(f"{name:<28} {value:.6g}" if isinstance(value, float) else f"{name:<28} {value}")
    print(result.model, flush=True)


def fit(
    task: Task,
    read: Callable[[], tuple[Dataset | Shards, Dataset]],
    config: TrainConfig,
    directory: str,
    inputs: Mapping[str, Any] | None = None,
) -> FitResult:
    """Train ``task`` up to ``config.steps``, going on from whatever ``directory`` holds.

    ``read`` gives the training and the validation set, which are gathered into memory, or the parts of a training set
    that need not be. It is called only if there is anything left to train: a finished run returns at once, without Ray.
    ``inputs`` names what else the result depends on (sources, hashes of other models); like the configuration it may
    not change within a run.

    Raises:
        RunChanged: ``directory`` was begun with another configuration or other inputs.
        UserError: what a worker found wrong with data or configuration.
    """
    if config.start_from:
        config = replace(config, start_from=absolute(config.start_from))
    run = RunDirectory(directory)
    run.claim(describe(task, config) | {"inputs": dict(inputs or {})})
    metrics = run.finished(config.steps)
    if metrics is None:
        metrics = _train(task, read(), config, run)
    else:
        get_logger("train").info("%s is already complete: %d steps", run.uri, metrics["step"])
    return FitResult(metrics, f"{run.uri}/model")


def _train(
    task: Task, datasets: tuple[Dataset | Shards, Dataset], config: TrainConfig, run: RunDirectory
) -> dict[str, Any]:
    train, validation = source_of(datasets[0]), ray.put(load_columns(datasets[1]))
    cpus = config.cpus_per_worker or cpus_per_worker(config.workers)
    with shown(run, config.steps, Path(run.uri).name):
        _run_workers(Assignment(task, config, run.uri, train, validation, cpus), run)
    metrics = run.finished(config.steps)
    if metrics is None:
        raise UserError(run.read_progress()["error"])
    return metrics


def _run_workers(assignment: Assignment, run: RunDirectory) -> None:
    config = assignment.config
    gpu = ray.cluster_resources().get("GPU", 0) >= config.workers
    resources = {"CPU": assignment.threads, **({"GPU": 1} if gpu else {})}
    run.forget_ray_train()
    _hurry_ray_train()
    trainer = Trainer(
        train_worker,
        train_loop_config={"assignment": assignment},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(config.min_workers, config.workers) if config.min_workers else config.workers,  # type: ignore[arg-type]  # as version 1's
            use_gpu=gpu,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(  # type: ignore[call-arg]  # annotated as version 1's
            name=CHECKPOINTS,
            storage_path=run.path,
            storage_filesystem=run.filesystem,
            failure_config=FailureConfig(max_failures=config.max_failures),
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )
    trainer.fit()


class Trainer(TorchTrainer):
    """Without the actor that outlives a lost controller to free its placement group, which goes with the job anyway.

    That actor asks the dashboard for the controller's state once a second. A Ray started by a job has no dashboard:
    every answer would be a warning in the terminal.
    """

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]  # annotated as version 1's
        return [callback for callback in callbacks if not isinstance(callback, PlacementGroupCleanerCallback)]


def _hurry_ray_train() -> None:
    """Look after the workers more often than every 2 s; on one machine, do not watch for its pre-emption."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    if len(ray.nodes()) == 1:
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


def cpus_per_worker(workers: int) -> int:
    """The most cores that each of ``workers`` can have, when no worker spans two machines.

    Raises:
        UserError: the cluster has fewer cores than workers.
    """
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    for cpus in range(max(nodes, default=0), 0, -1):
        if sum(node // cpus for node in nodes) >= workers:
            return cpus
    raise UserError(f"train.workers is {workers} but the cluster has {sum(nodes)} CPUs: use fewer workers.")
