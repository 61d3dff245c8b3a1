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

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.fs as pafs
from omegaconf import OmegaConf
from safetensors import SafetensorError

from models.errors import UserError
from models.manifest import MANIFEST, CheckpointError, is_manifest, verify, whole_set, write_manifest_part
from t2i.data.storage import (
    absolute,
    delete_file,
    delete_folder,
    fetch_directory,
    file_info,
    filesystem_for,
    list_folder,
    put_directory,
    read_file,
    refusing,
    write_file,
)
from t2i.logs import get_logger
from t2i.train.newest_only import NewestOnly

CHECKPOINTS = "checkpoints"
METRIC = "metric.json"
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


FULL = os.strerror(errno.ENOSPC)
"""safetensors raises its text alone."""

T = TypeVar("T")


class CheckpointNotSaved(UserError):
    """A checkpoint could not be kept: older ones stand, training can go on, and the next one may succeed."""


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

    def progress_writer(self) -> NewestOnly[Mapping[str, Any]]:
        """:meth:`write_progress` for between two steps: it never waits and never raises."""
        return NewestOnly(self.write_progress, f"progress of {self.uri}")

    def read_progress(self) -> dict[str, Any]:
        """What was last written."""
        return json.loads(read_file(f"{self.uri}/progress.json"))

    def put(self, directory: Path, name: str) -> None:
        """Copy a local directory to ``name``, its manifest last."""
        put_directory(directory, f"{self.uri}/{name}")

    def forget_ray_train(self) -> None:
        """Delete Ray Train's own list of checkpoints, which this class keeps instead (it may name deleted ones)."""
        with refusing(self.uri):
            delete_file(self.filesystem, f"{self.path}/{CHECKPOINTS}/checkpoint_manager_snapshot.json")

    def newest_checkpoint(self) -> str | None:
        """The name of the newest checkpoint that is whole; any newer one is ignored with a warning.

        Raises:
            DataError: the store does not answer, which must not be taken for there being none.
        """
        for name in reversed(self._checkpoints()):
            try:
                self.fetch_checkpoint(name)
            except CheckpointError as error:
                get_logger("train").warning("ignoring %s: %s", name, error)
            else:
                return name
        return None

    def fetch_checkpoint(self, name: str) -> Path:
        """A verified local copy of a checkpoint.

        Raises:
            CheckpointError: it is incomplete or damaged.
            DataError: the store does not answer.
        """
        local = fetch_directory(f"{self.uri}/{CHECKPOINTS}/{name}")
        verify(local)
        return local

    def put_checkpoint(self, directory: Path, name: str, keep: int, metric: float | None = None) -> str:
        """Copy a checkpoint in, with its manifest, and delete older ones; returns its path.

        There stay the ``keep`` newest and the one of the smallest ``metric`` (such as a validation loss).

        Raises:
            CheckpointNotSaved: the disk is full or the store is lost; what was there before is untouched.
        """
        with self.saving(name):
            self._put_checkpoint(directory, name, metric)
        self._prune(name, keep)
        return f"{self.path}/{CHECKPOINTS}/{name}"

    def put_checkpoint_part(
        self, directory: Path, name: str, rank: int, world: int, keep: int, metric: float | None = None
    ) -> str:
        """:meth:`put_checkpoint` by one of ``world`` writers, whose own files are in ``directory``, without a manifest.

        The checkpoint is whole when all have done this. ``name`` is that of :func:`checkpoint_name` with an attempt,
        which all share and no earlier start of the run had. Rank 0 alone gives the metric and deletes older ones.

        Raises:
            CheckpointNotSaved: as there; the other writers' parts then never become a whole checkpoint.
        """
        if "-" not in name:
            raise ValueError(f"{name} names no attempt: parts of two attempts would be taken for one checkpoint")
        with self.saving(name):
            write_manifest_part(directory, rank, world)
            self._put_checkpoint(directory, name, metric if rank == 0 else None)
        if rank == 0:
            self._prune(name, keep)
        return f"{self.path}/{CHECKPOINTS}/{name}"

    @contextmanager
    def saving(self, name: str, where: str | Path | None = None) -> Iterator[None]:
        """Turn what a full disk or a lost store raises in the block into :class:`CheckpointNotSaved`.

        For writing a checkpoint's files before they are put, too; ``where`` is then their directory.
        """
        try:
            yield
        except (OSError, UserError, SafetensorError) as error:
            raise CheckpointNotSaved(f"checkpoint {name} was not saved: {_reason(error, where or self.uri)}") from error

    def _put_checkpoint(self, directory: Path, name: str, metric: float | None) -> None:
        folder = f"{CHECKPOINTS}/{name}"
        try:
            if metric is not None:
                self._write(f"{folder}/{METRIC}", json.dumps(metric))
            self.put(directory, folder)
        except BaseException:
            self._try("remove what was written of", name, lambda: self._take_back(directory, folder))
            raise

    def _take_back(self, directory: Path, folder: str) -> None:
        """Delete the files of ``directory`` from ``folder``, where other writers' may be; nothing else is in it."""
        for file in directory.iterdir():
            delete_file(self.filesystem, f"{self.path}/{folder}/{file.name}")
        if all(info.base_name == METRIC for info in list_folder(self.filesystem, f"{self.path}/{folder}")):
            delete_folder(self.filesystem, f"{self.path}/{folder}")

    def _prune(self, name: str, keep: int) -> None:
        """Delete what need not be kept of the checkpoints up to ``name``. Failing is no reason to stop training."""
        for old in self._try("list checkpoints up to", name, lambda: self._superfluous(name, keep)) or []:
            self._try("delete checkpoint", old, lambda old=old: self._delete_checkpoint(old))  # type: ignore[misc]

    def _superfluous(self, name: str, keep: int) -> list[str]:
        """All older than the newest whole one, partial ones included, but the ``keep`` newest whole and the best."""
        until_now = [other for other in self._checkpoints() if other <= name]
        whole = [other for other in until_now if self._looks_whole(other)]
        kept = {*whole[-keep:], *self._best(whole)}
        return [other for other in until_now if other not in kept and other < whole[-1]] if whole else []

    def _best(self, names: list[str]) -> list[str]:
        """The one with the smallest metric, of equal ones the newest; none where no checkpoint has any."""
        metrics = {name: self._metric(name) for name in names}
        measured = [name for name in reversed(names) if metrics[name] == metrics[name]]
        return [min(measured, key=metrics.__getitem__)] if measured else []

    def _metric(self, name: str) -> float:
        """What :meth:`put_checkpoint` was given; NaN where that was nothing."""
        file = f"{CHECKPOINTS}/{name}/{METRIC}"
        return float(json.loads(read_file(f"{self.uri}/{file}"))) if self._has(file) else float("nan")

    def _looks_whole(self, name: str) -> bool:
        """Whether all manifests are there; the files themselves are hashed when they are read."""
        try:
            return bool(whole_set(self._files(name), name))
        except CheckpointError:
            return False

    def _files(self, name: str) -> list[str]:
        folder = f"{self.path}/{CHECKPOINTS}/{name}"
        return [info.base_name for info in list_folder(self.filesystem, folder) if info.is_file]

    def _delete_checkpoint(self, name: str) -> None:
        """Manifests first: what a deletion cut short leaves must not look whole."""
        folder = f"{self.path}/{CHECKPOINTS}/{name}"
        for file in filter(is_manifest, self._files(name)):
            delete_file(self.filesystem, f"{folder}/{file}")
        delete_folder(self.filesystem, folder)

    def _checkpoints(self) -> list[str]:
        """Names under ``checkpoints/``, oldest first."""
        with refusing(self.uri):
            found = list_folder(self.filesystem, f"{self.path}/{CHECKPOINTS}")
        return [info.base_name for info in found if not info.is_file]

    def _has(self, name: str) -> bool:
        with refusing(self.uri):
            return file_info(self.filesystem, f"{self.path}/{name}").is_file

    def _write(self, name: str, content: str) -> None:
        with refusing(f"{self.uri}/{name}"):
            write_file(self.filesystem, f"{self.path}/{name}", content.encode())

    def _try(self, what: str, name: str, act: Callable[[], T]) -> T | None:
        try:
            return act()
        except (OSError, UserError) as error:
            get_logger("train").warning("could not %s %s: %s", what, name, error)
            return None

    def _refuse_changes(self, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
        changed = [key for key in sorted(saved | wanted) if saved.get(key) != wanted.get(key) and key not in MAY_CHANGE]
        if changed:
            changes = ", ".join(f"{key} ({saved.get(key)} -> {wanted.get(key)})" for key in changed)
            raise RunChanged(f"{self.uri} was begun with another configuration, {changes}: name another run directory.")


def checkpoint_name(step: int, attempt: str | None = None) -> str:
    """Names sort as their steps do. What several writers save together is named after their attempt, too."""
    return f"step_{step:07d}" if attempt is None else f"step_{step:07d}-{attempt}"


def _reason(error: BaseException, where: str | Path) -> str:
    """What went wrong and what to do, of an error or of what caused it."""
    causes = [error, error.__cause__]
    if any(getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or FULL in str(cause) for cause in causes):
        return f"{FULL}; training goes on: free space under {where}."
    return f"{str(error).splitlines()[0].rstrip('.')}; training goes on."


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> dotted key -> leaf."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        path = f"{prefix}{key}"
        leaves.update(_flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value})
    return leaves
