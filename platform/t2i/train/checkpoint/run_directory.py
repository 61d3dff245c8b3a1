"""A run's directory, local or on S3: its configuration, checkpoints, progress, model and final metrics.

::

    config.yaml                       the task, the training and its inputs, written before the first step
    checkpoints/step_0000500/         see folder.py; step_0000500-ab12cd if several workers write it together
    progress.json                     steps done and the newest loss, for the driver's terminal
    logs/ pictures/                   TensorBoard events; PNG files
    tracker.json                      this run's id in MLflow or Weights & Biases, see trackers.py
    model/                            the final EMA, a model directory
    metrics.json                      the last validation; written last, so that its presence means the run is finished
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from models.errors import UserError
from models.manifest import MANIFEST
from t2i.config import is_same
from t2i.storage import (
    BackgroundWriter,
    as_data_error,
    delete_file,
    file_info,
    filesystem_for,
    is_local,
    put_directory,
    read_file,
    write_file,
)
from t2i.train.checkpoint.folder import CheckpointFolder, FoundCheckpoint

CHECKPOINTS = "checkpoints"
MUTABLE_FIELDS = {
    f"train.{field}"
    for field in (
        "steps",
        "workers",
        "min_workers",
        "max_failures",
        "cpus_per_worker",
        "gpus_per_worker",
        "parallel",
        "accumulate",
        "recompute",
        "prefetch",
        "compile",
        "log_every",
        "validate_every",
        "validation_batch_size",
        "checkpoint_every",
        "keep_checkpoints",
        "tracker",
        "tracker_project",
        "tracker_uri",
    )
}
"""What may differ when a run is resumed: fields that change no result, or only how far the run goes."""


class RunChangedError(UserError):
    """A run directory holds results of another configuration."""


class RunDirectory:
    """Reads and writes the files of one run, under an absolute local path or ``s3://`` address."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.filesystem, self.path = filesystem_for(self.uri)
        self.checkpoints = CheckpointFolder(f"{self.uri}/{CHECKPOINTS}")

    @property
    def is_local(self) -> bool:
        """Whether the directory is on this machine's file system."""
        return is_local(self.filesystem)

    @property
    def has_results(self) -> bool:
        """Whether there is a checkpoint, model or metric, which belongs to the configuration in ``config.yaml``."""
        return bool(self.checkpoints.names()) or self._has("metrics.json") or self._has(MANIFEST)

    def claim(self, config: Mapping[str, Any]) -> None:
        """Write ``config`` as this run's; raise RunChangedError if there are results of another configuration.

        ::

            config.yaml   results   what happens
            no            no        written
            yes           no        overwritten: the earlier start came to nothing, so that it binds nobody
            yes           yes       compared, then overwritten with what may change, such as more steps
            no            yes       written: the results are of unknown origin, there is nothing to compare

        Written before any training, so that no checkpoint is ever without its configuration.

        Raises:
            RunChangedError: a field differs that may not change within a run (not one of :data:`MUTABLE_FIELDS`).
        """
        if self.has_results and self._has("config.yaml"):
            saved = yaml.safe_load(read_file(f"{self.uri}/config.yaml"))
            self._refuse_changes(_flat(saved), _flat(config))
        self._write("config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def final_metrics(self, steps: int) -> dict[str, Any] | None:
        """Return the final metrics if ``steps`` steps have been trained and the model is complete, else None."""
        if not (self._has("metrics.json") and self._has(f"model/{MANIFEST}")):
            return None
        metrics = json.loads(read_file(f"{self.uri}/metrics.json"))
        return metrics if metrics["step"] >= steps else None

    def is_finished(self) -> bool:
        """Return whether the run was trained to its end."""
        return self._has("metrics.json")

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write ``metrics.json``, which marks the run as finished."""
        self._write("metrics.json", json.dumps(dict(metrics), indent=2))

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        """Replace ``progress.json``, which the driver reads while the workers train."""
        self._write("progress.json", json.dumps(dict(progress)))

    def progress_writer(self) -> BackgroundWriter[Mapping[str, Any]]:
        """Return a writer that calls :meth:`write_progress` in the background: it neither blocks nor raises."""
        return BackgroundWriter(self.write_progress, f"progress of {self.uri}")

    def read_progress(self) -> dict[str, Any]:
        """Return what :meth:`write_progress` wrote last."""
        progress: dict[str, Any] = json.loads(read_file(f"{self.uri}/progress.json"))
        return progress

    def put(self, directory: Path, name: str) -> None:
        """Copy a local directory to ``name`` in the run's, its manifest last."""
        put_directory(directory, f"{self.uri}/{name}")

    def delete_ray_train_snapshot(self) -> None:
        """Delete Ray Train's own list of checkpoints, which may name deleted ones; it is not needed to find them."""
        with as_data_error(self.uri):
            delete_file(self.filesystem, f"{self.path}/{CHECKPOINTS}/checkpoint_manager_snapshot.json")

    def newest_checkpoint(self) -> FoundCheckpoint | None:
        """Return the newest complete checkpoint, None if there is none: see :meth:`CheckpointFolder.newest`.

        Raises:
            DataError: the store does not answer.
        """
        return self.checkpoints.newest()

    def fetch_checkpoint(self, name: str) -> Path:
        """Return a verified local copy of a checkpoint.

        Raises:
            CheckpointError: the checkpoint is incomplete or damaged.
            DataError: the store does not answer.
        """
        return self.checkpoints.fetch(name)

    def put_checkpoint(
        self, directory: Path, name: str, keep: int, metric: float | None = None, rank: int = 0, world: int = 1
    ) -> str:
        """Copy the files of writer ``rank``, one of ``world``, into checkpoint ``name``; return its path.

        The checkpoint is complete when all writers have done this. Rank 0 then deletes older checkpoints: see
        :meth:`CheckpointFolder.prune`.

        Args:
            directory: the local directory of this writer's files; its manifest is added.
            name: from :func:`checkpoint_name`; if there are several writers, with their common attempt.
            keep: how many of the newest checkpoints to keep, beside the best.
            metric: by which the best is chosen, lower is better; None if there was no validation. Only rank 0's counts.
            rank: this writer.
            world: how many writers there are.

        Raises:
            CheckpointNotSavedError: the disk is full or the store is lost. Older checkpoints are untouched.
        """
        if world > 1 and "-" not in name:
            raise ValueError(f"{name} names no attempt: files of two attempts would be taken for one checkpoint")
        self.checkpoints.put(directory, name, metric if rank == 0 else None, rank, world)
        if rank == 0:
            self.checkpoints.prune(name, keep)
        return f"{self.checkpoints.path}/{name}"

    def _has(self, name: str) -> bool:
        with as_data_error(self.uri):
            return file_info(self.filesystem, f"{self.path}/{name}").is_file

    def _write(self, name: str, content: str) -> None:
        with as_data_error(f"{self.uri}/{name}"):
            write_file(self.filesystem, f"{self.path}/{name}", content.encode())

    def _refuse_changes(self, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
        changed = [
            key
            for key in sorted(saved | wanted)
            if key not in MUTABLE_FIELDS and not is_same(saved.get(key), wanted.get(key))
        ]
        if changed:
            changes = ", ".join(f"{key} ({saved.get(key)} -> {wanted.get(key)})" for key in changed)
            raise RunChangedError(
                f"{self.uri} was begun with another configuration, {changes}: name another run directory."
            )


def checkpoint_name(step: int, attempt: str | None = None) -> str:
    """Return a checkpoint's name; names sort in the order of their steps.

    ``attempt`` is needed where several workers write a checkpoint together, and is new at each start of the run: else
    files left by killed workers and files of their successors could make up one checkpoint that looks complete.
    """
    return f"step_{step:07d}" if attempt is None else f"step_{step:07d}-{attempt}"


def step_of(name: str) -> int:
    """Return the number of steps that a checkpoint of this name has trained."""
    return int(name.removeprefix("step_").partition("-")[0])


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings: dotted key -> value."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        path = f"{prefix}{key}"
        leaves.update(_flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value})
    return leaves
