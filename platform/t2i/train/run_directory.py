"""A run's directory, local or on S3: what it was configured with, its checkpoints, whether it is finished.

::

    config.yaml                       the task, the training and its inputs, written before the first step
    checkpoints/step_0000500/         see checkpoints.py
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
from models.manifest import MANIFEST, CheckpointError, verify
from t2i.data.storage import absolute, fetch_directory, filesystem_for, put_directory, read_file, write_file
from t2i.logs import get_logger

CHECKPOINTS = "checkpoints"
MAY_CHANGE = {
    f"train.{field}"
    for field in (
        "steps",
        "workers",
        "cpus_per_worker",
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

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    @property
    def begun(self) -> bool:
        """Whether there is anything that another configuration would contradict."""
        return bool(self._checkpoints()) or self._has("metrics.json") or self._has(MANIFEST)

    def claim(self, config: Mapping[str, Any]) -> None:
        """Write ``config`` into a new directory, or compare it with what the run was begun with.

        Raises:
            RunChanged: a field differs that may not change within a run.
        """
        wanted = OmegaConf.create(dict(config))
        if self.begun and self._has("config.yaml"):
            saved = OmegaConf.create(read_file(f"{self.uri}/config.yaml").decode())
            self._refuse_changes(_flat(OmegaConf.to_container(saved)), _flat(OmegaConf.to_container(wanted)))
        write_file(self.filesystem, f"{self.path}/config.yaml", OmegaConf.to_yaml(wanted).encode())

    def finished(self, steps: int) -> dict[str, Any] | None:
        """The final metrics, if ``steps`` steps have been trained and the model stands."""
        if not (self._has("metrics.json") and self._has(f"model/{MANIFEST}")):
            return None
        metrics = json.loads(read_file(f"{self.uri}/metrics.json"))
        return metrics if metrics["step"] >= steps else None

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write the file that makes the run a finished one."""
        write_file(self.filesystem, f"{self.path}/metrics.json", json.dumps(dict(metrics), indent=2).encode())

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        """Replace ``progress.json``: the driver reads it while workers train."""
        write_file(self.filesystem, f"{self.path}/progress.json", json.dumps(dict(progress)).encode())

    def read_progress(self) -> dict[str, Any]:
        """What was last written."""
        return json.loads(read_file(f"{self.uri}/progress.json"))

    def put(self, directory: Path, name: str) -> None:
        """Copy a local directory to ``name``, its manifest last."""
        put_directory(directory, f"{self.uri}/{name}")

    def forget_ray_train(self) -> None:
        """Delete Ray Train's own list of checkpoints, which this class keeps instead (it may name deleted ones)."""
        snapshot = f"{CHECKPOINTS}/checkpoint_manager_snapshot.json"
        if self._has(snapshot):
            self.filesystem.delete_file(f"{self.path}/{snapshot}")

    def newest_checkpoint(self) -> str | None:
        """The name of the newest checkpoint that is whole; any newer one is ignored with a warning."""
        for name in reversed(self._checkpoints()):
            try:
                self.fetch_checkpoint(name)
            except (CheckpointError, UserError) as error:
                get_logger("train").warning("ignoring %s: %s", name, error)
            else:
                return name
        return None

    def fetch_checkpoint(self, name: str) -> Path:
        """A verified local copy of a checkpoint.

        Raises:
            UserError, CheckpointError: it is incomplete or damaged.
        """
        local = fetch_directory(f"{self.uri}/{CHECKPOINTS}/{name}")
        verify(local)
        return local

    def put_checkpoint(self, directory: Path, name: str, keep: int) -> str:
        """Copy a checkpoint in, then delete all but the ``keep`` newest up to it; returns its path."""
        self.put(directory, f"{CHECKPOINTS}/{name}")
        until_now = [other for other in self._checkpoints() if other <= name]
        for old in until_now[:-keep]:
            self.filesystem.delete_dir(f"{self.path}/{CHECKPOINTS}/{old}")
        return f"{self.path}/{CHECKPOINTS}/{name}"

    def _checkpoints(self) -> list[str]:
        """Names under ``checkpoints/``, oldest first."""
        selector = pafs.FileSelector(f"{self.path}/{CHECKPOINTS}", allow_not_found=True)
        return sorted(info.base_name for info in self.filesystem.get_file_info(selector) if not info.is_file)

    def _has(self, name: str) -> bool:
        return self.filesystem.get_file_info(f"{self.path}/{name}").is_file

    def _refuse_changes(self, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
        changed = [key for key in sorted(saved | wanted) if saved.get(key) != wanted.get(key) and key not in MAY_CHANGE]
        if changed:
            changes = ", ".join(f"{key} ({saved.get(key)} -> {wanted.get(key)})" for key in changed)
            raise RunChanged(f"{self.uri} was begun with another configuration, {changes}: name another run directory.")


def checkpoint_name(step: int) -> str:
    """Names sort as their steps do."""
    return f"step_{step:07d}"


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> dotted key -> leaf."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        path = f"{prefix}{key}"
        leaves.update(_flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value})
    return leaves
