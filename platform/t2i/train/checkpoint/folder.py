"""The checkpoints of a run in one folder, local or on S3: writing, finding and deleting them."""

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
"""The file in a checkpoint that holds its validation metric."""

DISK_FULL = os.strerror(errno.ENOSPC)
"""Text of the disk-full error; safetensors raises one without an errno, which is recognised by this text."""

T = TypeVar("T")
log = get_logger("train")


class CheckpointNotSavedError(UserError):
    """A checkpoint could not be saved. Older ones are untouched; training can go on, and the next may succeed."""


@dataclass(frozen=True)
class FoundCheckpoint:
    """A complete checkpoint: its name in the folder, and a verified local copy."""

    name: str
    local: Path


class CheckpointFolder:
    """A folder of checkpoints, each a folder of files. Their names sort by age.

    A checkpoint counts only when all its manifests are there (:mod:`models.manifest`), which are written last.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.filesystem, self.path = filesystem_for(uri)

    def names(self) -> list[str]:
        """Return the names of all checkpoints, complete or not, oldest first."""
        with as_data_error(self.uri):
            found = list_folder(self.filesystem, self.path)
        return [entry.name for entry in found if entry.is_folder]

    def newest(self) -> FoundCheckpoint | None:
        """Return the newest complete checkpoint, None if there is none; warn of each newer one that is broken.

        ::

            step_0000500   complete
            step_0001000   complete    <- returned
            step_0001500   its writer was killed: no manifest
            step_0002000   a file was damaged: its hash is wrong

        Raises:
            DataError: the store does not answer. To take that for "no checkpoint" would start the run anew.
        """
        for name in reversed(self.names()):
            try:
                return FoundCheckpoint(name, self.fetch(name))
            except CheckpointError as error:
                log.warning("ignoring %s: %s", name, error)
        return None

    def fetch(self, name: str) -> Path:
        """Copy a checkpoint to a local directory and verify every file's hash; return the directory.

        Raises:
            CheckpointError: the checkpoint is incomplete or damaged.
            DataError: the store does not answer.
        """
        local = fetch_directory(f"{self.uri}/{name}")
        verify(local)
        return local

    def put(self, directory: Path, name: str, metric: float | None = None, rank: int = 0, world: int = 1) -> None:
        """Copy the files of writer ``rank``, one of ``world``, from ``directory`` into checkpoint ``name``.

        What a kill at each point leaves::

            metric.json                     a folder without a manifest: ignored by newest()
            rank's files                    the same
            manifest-<rank>-of-<world>      complete only if all other writers' manifests are there

        A rank whose write fails takes its own files back. The checkpoint then lacks that rank's manifest for good, so
        that what the other ranks write never looks complete; prune() deletes it later.

        Raises:
            CheckpointNotSavedError: the disk is full or the store is lost. Older checkpoints are untouched.
        """
        with as_not_saved_error(name, directory):
            write_manifest(directory, rank, world)
        with as_not_saved_error(name, self.uri):
            try:
                if metric is not None:
                    write_file(self.filesystem, f"{self.path}/{name}/{METRIC}", json.dumps(metric).encode())
                put_directory(directory, f"{self.uri}/{name}")
            except BaseException:
                _warn_on_failure("remove what was written of", name, partial(self._remove_files, directory, name))
                raise

    def _remove_files(self, directory: Path, name: str) -> None:
        """Delete the files of ``directory`` from a checkpoint, and the checkpoint if no other writer's are in it."""
        folder = f"{self.path}/{name}"
        for file in directory.iterdir():
            delete_file(self.filesystem, f"{folder}/{file.name}")
        if set(self._files(name)) <= {METRIC}:
            delete_folder(self.filesystem, folder)

    def prune(self, until: str, keep: int) -> None:
        """Delete all checkpoints up to ``until`` but the ``keep`` newest complete ones, the best, and unfinished ones.

        ::

            keep=1   step_1   complete, metric 0.3    kept: the best
                     step_2   complete, metric 0.5    deleted
                     step_3   incomplete              deleted: older than a complete one, nobody goes on writing it
                     step_4   complete                kept: the newest
                     step_5   incomplete              kept: other ranks may still be writing it

        A kill while a checkpoint is deleted leaves one without manifests, which is incomplete: the next call deletes
        it. A deletion that fails costs a warning, and training goes on.
        """
        old_names = _warn_on_failure("list checkpoints up to", until, partial(self._names_to_delete, until, keep))
        for old in old_names or []:
            _warn_on_failure("delete checkpoint", old, partial(self._delete, old))

    def _names_to_delete(self, until: str, keep: int) -> list[str]:
        until_now = [name for name in self.names() if name <= until]
        complete = [name for name in until_now if self._looks_complete(name)]
        if not complete:
            return []
        kept = {*complete[-keep:], *self._best(complete)}
        return [name for name in until_now if name not in kept and name < complete[-1]]

    def _best(self, names: list[str]) -> list[str]:
        """Return a list with the checkpoint of the lowest metric, the newest of equal ones; [] if none has a metric."""
        metrics = {name: self._metric(name) for name in reversed(names)}
        measured = [name for name, metric in metrics.items() if not math.isnan(metric)]
        return [min(measured, key=metrics.__getitem__)] if measured else []

    def _metric(self, name: str) -> float:
        """Return the metric that :meth:`put` was given; NaN if it was given none."""
        try:
            return float(json.loads(read_path(self.filesystem, f"{self.path}/{name}/{METRIC}")))
        except FileNotFoundError:
            return math.nan

    def _looks_complete(self, name: str) -> bool:
        """Return whether all manifests are there; only :meth:`fetch` verifies the files that they name."""
        try:
            return bool(complete_manifests(self._files(name), name))
        except CheckpointError:
            return False

    def _files(self, name: str) -> list[str]:
        return [entry.name for entry in list_folder(self.filesystem, f"{self.path}/{name}") if entry.is_file]

    def _delete(self, name: str) -> None:
        """Delete a checkpoint, its manifests first: what remains if this is killed half-way must not look complete."""
        for file in filter(is_manifest, self._files(name)):
            delete_file(self.filesystem, f"{self.path}/{name}/{file}")
        delete_folder(self.filesystem, f"{self.path}/{name}")


@contextmanager
def as_not_saved_error(name: str, where: str | Path) -> Iterator[None]:
    """Turn what a full disk or a lost store raises in the block into :class:`CheckpointNotSavedError`.

    ``name`` is the checkpoint that is being written, ``where`` the folder its files go to.
    """
    try:
        yield
    except (OSError, UserError, SafetensorError) as error:
        raise CheckpointNotSavedError(f"checkpoint {name} was not saved: {_reason(error, where)}") from error


def _reason(error: BaseException, where: str | Path) -> str:
    """Return what went wrong, as told by the error or its cause, and what to do about it."""
    causes = [error, error.__cause__]
    if any(
        getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or DISK_FULL in str(cause) for cause in causes
    ):
        return f"{DISK_FULL}; training goes on: free space under {where}."
    return f"{str(error).splitlines()[0].rstrip('.')}; training goes on."


def _warn_on_failure(what: str, name: str, act: Callable[[], T]) -> T | None:
    """Return the result of ``act``, or log a warning and return None if the file system or store fails."""
    try:
        return act()
    except (OSError, UserError) as error:
        log.warning("could not %s %s: %s", what, name, error)
        return None
