"""The checkpoints of a run in one folder, local or on S3: putting, finding and deleting them."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from models.errors import UserError
from models.manifest import CheckpointError, complete_manifests, is_manifest, verify, write_manifest
from t2i.logs import get_logger
from t2i.storage import (
    as_data_error,
    delete_file,
    delete_folder,
    fetch_directory,
    filesystem_for,
    list_folder,
    put_directory,
    read_path,
    write_file,
)

METRIC = "metric.json"
FULL = os.strerror(errno.ENOSPC)
"""safetensors raises its text alone."""

T = TypeVar("T")
log = get_logger("train")


class CheckpointNotSaved(UserError):
    """A checkpoint could not be kept: older ones stand, training can go on, and the next one may succeed."""


@dataclass(frozen=True)
class FoundCheckpoint:
    """A whole checkpoint: its name in the folder, and a verified local copy."""

    name: str
    local: Path


class CheckpointFolder:
    """Folders whose names sort by age, each whole or not by its manifests (:mod:`models.manifest`)."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.filesystem, self.path = filesystem_for(uri)

    def names(self) -> list[str]:
        """All that is there, whole or not, oldest first."""
        with as_data_error(self.uri):
            found = list_folder(self.filesystem, self.path)
        return [info.base_name for info in found if not info.is_file]

    def newest(self) -> FoundCheckpoint | None:
        """The newest whole one; any newer is ignored with a warning.

        Raises:
            DataError: the store does not answer, which must not be taken for there being none.
        """
        for name in reversed(self.names()):
            try:
                return FoundCheckpoint(name, self.fetch(name))
            except CheckpointError as error:
                log.warning("ignoring %s: %s", name, error)
        return None

    def fetch(self, name: str) -> Path:
        """A verified local copy.

        Raises:
            CheckpointError: it is incomplete or damaged.
            DataError: the store does not answer.
        """
        local = fetch_directory(f"{self.uri}/{name}")
        verify(local)
        return local

    def put(self, directory: Path, name: str, metric: float | None = None, rank: int = 0, world: int = 1) -> None:
        """Copy in what ``directory`` holds of a checkpoint, the manifest of it last; it remembers its ``metric``.

        Raises:
            CheckpointNotSaved: the disk is full or the store is lost; what was there before is untouched, and the
                other writers' parts never become a whole checkpoint.
        """
        with saving(name, directory):
            write_manifest(directory, rank, world)
        with saving(name, self.uri):
            try:
                if metric is not None:
                    write_file(self.filesystem, f"{self.path}/{name}/{METRIC}", json.dumps(metric).encode())
                put_directory(directory, f"{self.uri}/{name}")
            except BaseException:
                _try("remove what was written of", name, partial(self._take_back, directory, name))
                raise

    def _take_back(self, directory: Path, name: str) -> None:
        """Delete the files of ``directory`` from a checkpoint, and that if no other writer's are in it."""
        folder = f"{self.path}/{name}"
        for file in directory.iterdir():
            delete_file(self.filesystem, f"{folder}/{file.name}")
        if set(self._files(name)) <= {METRIC}:
            delete_folder(self.filesystem, folder)

    def prune(self, until: str, keep: int) -> None:
        """Of those up to ``until``, keep the ``keep`` newest whole ones, the best, and what may be being written.

        That is all that is newer than the newest whole one; older partial ones are leftovers. Failing to delete is
        no reason to stop training.
        """
        for old in _try("list checkpoints up to", until, partial(self._superfluous, until, keep)) or []:
            _try("delete checkpoint", old, partial(self._delete, old))

    def _superfluous(self, until: str, keep: int) -> list[str]:
        until_now = [name for name in self.names() if name <= until]
        full_tensor = [name for name in until_now if self._looks_whole(name)]
        kept = {*full_tensor[-keep:], *self._best(full_tensor)}
        return [name for name in until_now if name not in kept and name < full_tensor[-1]] if full_tensor else []

    def _best(self, names: list[str]) -> list[str]:
        """The one with the smallest metric, of equal ones the newest; none where no checkpoint has any."""
        metrics = {name: self._metric(name) for name in reversed(names)}
        measured = [name for name, metric in metrics.items() if not math.isnan(metric)]
        return [min(measured, key=metrics.__getitem__)] if measured else []

    def _metric(self, name: str) -> float:
        """What :meth:`put` was given; NaN where that was nothing."""
        try:
            return float(json.loads(read_path(self.filesystem, f"{self.path}/{name}/{METRIC}")))
        except FileNotFoundError:
            return math.nan

    def _looks_whole(self, name: str) -> bool:
        """Whether all manifests are there; the files themselves are hashed when they are read."""
        try:
            return bool(complete_manifests(self._files(name), name))
        except CheckpointError:
            return False

    def _files(self, name: str) -> list[str]:
        return [info.base_name for info in list_folder(self.filesystem, f"{self.path}/{name}") if info.is_file]

    def _delete(self, name: str) -> None:
        """Manifests first: what a deletion cut short leaves must not look whole."""
        for file in filter(is_manifest, self._files(name)):
            delete_file(self.filesystem, f"{self.path}/{name}/{file}")
        delete_folder(self.filesystem, f"{self.path}/{name}")


@contextmanager
def saving(name: str, where: str | Path) -> Iterator[None]:
    """Turn what a full disk or a lost store raises in the block into :class:`CheckpointNotSaved`.

    For writing the files of checkpoint ``name`` before they are put, too; ``where`` is the folder they go to.
    """
    try:
        yield
    except (OSError, UserError, SafetensorError) as error:
        raise CheckpointNotSaved(f"checkpoint {name} was not saved: {_reason(error, where)}") from error


def _reason(error: BaseException, where: str | Path) -> str:
    """What went wrong and what to do, of an error or of what caused it."""
    causes = [error, error.__cause__]
    if any(getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or FULL in str(cause) for cause in causes):
        return f"{FULL}; training goes on: free space under {where}."
    return f"{str(error).splitlines()[0].rstrip('.')}; training goes on."


def _try(what: str, name: str, act: Callable[[], T]) -> T | None:
    try:
        return act()
    except (OSError, UserError) as error:
        log.warning("could not %s %s: %s", what, name, error)
        return None
