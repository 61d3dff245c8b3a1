"""Training of a task on Ray: the only file that uses Ray Train's trainer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.data import Dataset
from ray.train import FailureConfig, LoggingConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.callback import RayTrainCallback
from ray.train.v2.api.exceptions import WorkerGroupError

from models.errors import UserError
from t2i.data import Shards, load_columns
from t2i.logs import get_logger
from t2i.storage import arrow_filesystem
from t2i.train.checkpoint.run_directory import CHECKPOINTS, RunDirectory
from t2i.train.config import TrainConfig
from t2i.train.failures import RetryUnlessRepeated, step_errors
from t2i.train.loader.ray_sources import source_of
from t2i.train.loop import run_config
from t2i.train.monitor.progress import show_progress
from t2i.train.tasks.base import Task
from t2i.train.worker import WorkerInput, train_worker


@dataclass(frozen=True)
class FitResult:
    """The final validation metrics with step and timings, and the address of the model directory."""

    metrics: Mapping[str, Any]
    model: str


def print_result(result: FitResult) -> None:
    """Print the final metrics, one a line, and where the model is."""
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
    """Train ``task`` up to ``config.steps``, going on from the newest checkpoint in ``directory``.

    A finished run returns at once, without Ray.

    Args:
        task: what to train.
        read: returns the training and the validation set; called only if there is anything left to train. A Dataset is
            gathered into memory, Shards are read in windows.
        config: how to train.
        directory: the run's directory, local or on S3.
        inputs: what else the result depends on, such as sources of data and hashes of other models; like the
            configuration it may not change within a run.

    Raises:
        RunChangedError: ``directory`` holds results of another configuration or other inputs.
        UserError: a worker found something wrong with data or configuration.
    """
    run = RunDirectory(directory)
    run.claim(run_config(task, config) | {"inputs": dict(inputs or {})})
    metrics = run.final_metrics(config.steps)
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
    with show_progress(run, config.steps, Path(run.uri).name):
        _run_workers(WorkerInput(task, config, run.uri, train, validation, cpus), run)
    metrics = run.final_metrics(config.steps)
    if metrics is None:
        raise UserError(run.read_progress()["error"])
    return metrics


def _run_workers(worker_input: WorkerInput, run: RunDirectory) -> None:
    config = worker_input.config
    gpu = gpus_per_worker(config) == 1
    resources = {"CPU": worker_input.threads, **({"GPU": 1} if gpu else {})}
    run.delete_ray_train_snapshot()
    _set_ray_train_intervals()
    trainer = Trainer(
        train_worker,
        train_loop_config={"worker_input": worker_input},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(config.min_workers, config.workers) if config.min_workers else config.workers,  # type: ignore[arg-type]  # as version 1's
            use_gpu=gpu,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(  # type: ignore[call-arg]  # annotated as version 1's
            name=CHECKPOINTS,
            storage_path=run.path,
            storage_filesystem=arrow_filesystem(run.filesystem),
            failure_config=FailureConfig(max_failures=config.max_failures),
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )
    try:
        trainer.fit()
    except WorkerGroupError as failure:
        if errors := step_errors(failure):
            raise errors[0] from failure
        raise


class Trainer(TorchTrainer):
    """A TorchTrainer that gives up at repeated errors, and starts no actor to free a lost controller's placement group.

    That actor asks the dashboard for the controller's state once a second. A Ray started by a job has no dashboard, so
    that each time it would print a warning. The placement group is freed when the job ends.
    """

    def _initialize_and_run_controller(self, **settings: Any) -> Result:
        policy = RetryUnlessRepeated(settings.pop("failure_policy").failure_config)
        result: Result = super()._initialize_and_run_controller(failure_policy=policy, **settings)  # type: ignore[misc]
        return result

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]  # annotated as version 1's
        return [callback for callback in callbacks if not isinstance(callback, PlacementGroupCleanerCallback)]


def _set_ray_train_intervals() -> None:
    """Check the workers every 0.5 s, not 2 s; on a single machine, do not watch for its pre-emption."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    if len(ray.nodes()) == 1:  # type: ignore[no-untyped-call]
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


def gpus_per_worker(config: TrainConfig) -> int:
    """Return the GPUs of each worker, 0 or 1; where nothing is said, 1 if the cluster has enough for all by now."""
    if config.gpus_per_worker is not None:
        return config.gpus_per_worker
    gpus: float = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
    return int(gpus >= config.workers)


def cpus_per_worker(workers: int) -> int:
    """Return the most cores that each of ``workers`` can have if no worker spans two machines.

    Raises:
        UserError: the cluster has fewer cores than workers.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    nodes = [int(node["Resources"].get("CPU", 0)) for node in alive]
    for cpus in range(max(nodes, default=0), 0, -1):
        if sum(node // cpus for node in nodes) >= workers:
            return cpus
    raise UserError(
        f"train.workers is {workers} but the cluster has {sum(nodes)} CPUs: use fewer workers, "
        "or name train.cpus_per_worker if an autoscaler is to bring more."
    )
