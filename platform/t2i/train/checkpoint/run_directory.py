"""A run's directory, local or on S3: what it was configured with, its checkpoints, whether it is finished.

::

    config.yaml                       the task, the training and its inputs, written before the first step
    checkpoints/step_0000500/         see checkpoints.py; step_0000500-ab12cd of several writers: see models/manifest.py
    progress.json                     steps done and the newest loss, for the driver's terminal
    logs/ pictures/                   TensorBoard events; PNG files
    tracker.json                      this run's id in MLflow or Weights & Biases, see trackers.py
    model/                            the final EMA, a model directory
    metrics.json                      the last validation, written last: the run is finished
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from omegaconf import OmegaConf

from models.errors import UserError
from models.manifest import MANIFEST
from t2i.storage import (
    BackgroundWriter,
    absolute,
    as_data_error,
    delete_file,
    file_info,
    filesystem_for,
    put_directory,
    read_file,
    write_file,
)
from t2i.train.checkpoint.folder import CheckpointFolder, FoundCheckpoint

CHECKPOINTS = "checkpoints"
MAY_CHANGE = {
    f"train.{field}"
    for field in (
        "steps",
        "workers",
        "min_workers",
        "max_failures",
        "cpus_per_worker",
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


class RunChanged(UserError):
    """A run directory was begun with another configuration."""


class RunDirectory:
    """Reads and writes under one local path or ``s3://`` address."""

    def __init__(self, uri: str) -> None:
        self.uri = absolute(uri)
        self.filesystem, self.path = filesystem_for(self.uri)
        self.checkpoints = CheckpointFolder(f"{self.uri}/{CHECKPOINTS}")

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    @property
    def begun(self) -> bool:
        """Whether there is anything that another configuration would contradict."""
        return bool(self.checkpoints.names()) or self._has("metrics.json") or self._has(MANIFEST)

    def claim(self, config: Mapping[str, Any]) -> None:
        """Write ``config`` into a new directory, or compare it with what the run was begun with.

        Raises:
            RunChanged: a field differs that may not change within a run.
        """
        wanted = OmegaConf.create(dict(config))
        if self.begun and self._has("config.yaml"):
            saved = OmegaConf.create(read_file(f"{self.uri}/config.yaml").decode())
            self._refuse_changes(_flat(OmegaConf.to_container(saved)), _flat(OmegaConf.to_container(wanted)))
        self._write("config.yaml", OmegaConf.to_yaml(wanted))

    def finished(self, steps: int) -> dict[str, Any] | None:
        """The final metrics, if ``steps`` steps have been trained and the model stands."""
        if not (self._has("metrics.json") and self._has(f"model/{MANIFEST}")):
            return None
        metrics = json.loads(read_file(f"{self.uri}/metrics.json"))
        return metrics if metrics["step"] >= steps else None

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write the file that makes the run a finished one."""
        self._write("metrics.json", json.dumps(dict(metrics), indent=2))

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        """Replace ``progress.json``: the driver reads it while workers train."""
        self._write("progress.json", json.dumps(dict(progress)))

    def progress_writer(self) -> BackgroundWriter[Mapping[str, Any]]:
        """:meth:`write_progress` for between two steps: it never waits and never raises."""
        return BackgroundWriter(self.write_progress, f"progress of {self.uri}")

    def read_progress(self) -> dict[str, Any]:
        """What was last written."""
        return json.loads(read_file(f"{self.uri}/progress.json"))

    def put(self, directory: Path, name: str) -> None:
        """Copy a local directory to ``name``, its manifest last."""
        put_directory(directory, f"{self.uri}/{name}")

    def forget_ray_train(self) -> None:
        """Delete Ray Train's own list of checkpoints, which this class keeps instead (it may name deleted ones)."""
        with as_data_error(self.uri):
            delete_file(self.filesystem, f"{self.path}/{CHECKPOINTS}/checkpoint_manager_snapshot.json")

    def newest_checkpoint(self) -> FoundCheckpoint | None:
        """The newest checkpoint that is whole; any newer one is ignored with a warning.

        Raises:
            DataError: the store does not answer, which must not be taken for there being none.
        """
        return self.checkpoints.newest()

    def fetch_checkpoint(self, name: str) -> Path:
        """A verified local copy of a checkpoint.

        Raises:
            CheckpointError: it is incomplete or damaged.
            DataError: the store does not answer.
        """
        return self.checkpoints.fetch(name)

    def put_checkpoint(
        self, directory: Path, name: str, keep: int, metric: float | None = None, rank: int = 0, world: int = 1
    ) -> str:
        """Copy in the files of one of ``world`` writers, ``directory``'s, which get their manifest; returns the path.

        The checkpoint is whole when all have done this. The name of several writers' is that of
        :func:`checkpoint_name` with an attempt, which all share and no earlier start of the run had. Rank 0 alone gives
        the metric and deletes older ones: there stay the ``keep`` newest and the one of the smallest ``metric`` (as of
        a validation).

        Raises:
            CheckpointNotSaved: the disk is full or the store is lost; what was there before is untouched, and the
                other writers' parts never become a whole checkpoint.
        """
        if world > 1 and "-" not in name:
            raise ValueError(f"{name} names no attempt: parts of two attempts would be taken for one checkpoint")
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
        changed = [key for key in sorted(saved | wanted) if saved.get(key) != wanted.get(key) and key not in MAY_CHANGE]
        if changed:
            changes = ", ".join(f"{key} ({saved.get(key)} -> {wanted.get(key)})" for key in changed)
            raise RunChanged(f"{self.uri} was begun with another configuration, {changes}: name another run directory.")


def checkpoint_name(step: int, attempt: str | None = None) -> str:
    """Names sort as their steps do. What several writers save together is named after their attempt, too."""
    return f"step_{step:07d}" if attempt is None else f"step_{step:07d}-{attempt}"


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> dotted key -> leaf."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        path = f"{prefix}{key}"
        leaves.update(_flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value})
    return leaves
