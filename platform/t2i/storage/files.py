"""Read, write, list and delete files of any file system; everything is retried (:mod:`t2i.storage.retry`)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fsspec import AbstractFileSystem
from fsspec.implementations.http import HTTPFileSystem

from models.files import write_new, write_whole
from t2i.storage.errors import answer_of, as_data_error
from t2i.storage.paths import filesystem_for, is_local
from t2i.storage.retry import with_retries

T = TypeVar("T")

PARALLEL_DELETIONS = 16
TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")
"""Under which of these names a file system gives the time of the last change."""


@dataclass(frozen=True)
class Entry:
    """What is at ``path``: a file, a folder, or neither if there is nothing.

    ``size`` is in bytes, 0 for a folder; ``modified`` in seconds since 1970, None if the file system does not say.
    """

    path: str
    is_file: bool = False
    is_folder: bool = False
    size: int = 0
    modified: float | None = None

    @property
    def name(self) -> str:
        """The last segment of the path."""
        return self.path.rpartition("/")[2]

    @property
    def exists(self) -> bool:
        """Whether there is anything."""
        return self.is_file or self.is_folder


def read_file(uri: str | Path) -> bytes:
    """Return the content of a file.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    filesystem, path = filesystem_for(uri)
    with as_data_error(uri):
        return read_path(filesystem, path)


def read_path(filesystem: AbstractFileSystem, path: str) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: as the file system raises it.
    """
    return with_retries(lambda: bytes(filesystem.cat_file(path)))


def write_file(filesystem: AbstractFileSystem, path: str, data: bytes) -> None:
    """Write a file so that readers see all of it or the old one: by renaming if local, else in one upload."""
    refuse_read_only(filesystem, path)
    if is_local(filesystem):
        write_whole(Path(path), data)
    else:
        with_retries(partial(filesystem.pipe_file, path, data))


def create_file(filesystem: AbstractFileSystem, path: str, data: bytes) -> None:
    """Write a file as a whole unless there is one; of several writers one succeeds."""
    refuse_read_only(filesystem, path)
    with suppress(FileExistsError):  # also raised if an attempt succeeds, its answer is lost, and it is retried
        if is_local(filesystem):
            write_new(Path(path), data)
        else:
            with_retries(partial(filesystem.pipe_file, path, data, mode="create"))


def refuse_read_only(filesystem: AbstractFileSystem, path: str) -> None:
    """Raise OSError if nothing can be written to ``filesystem``."""
    if is_http(filesystem):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)


def is_http(filesystem: AbstractFileSystem) -> bool:
    """Return whether ``filesystem`` is that of http:// and https://, which can only be read."""
    return isinstance(filesystem, HTTPFileSystem)


def file_info(filesystem: AbstractFileSystem, path: str) -> Entry:
    """Return what is at ``path``; its ``exists`` is false if there is nothing."""
    return _unless_missing(lambda: _entry(filesystem, _info(filesystem, path), path)) or Entry(path)


def list_folder(filesystem: AbstractFileSystem, path: str) -> list[Entry]:
    """Return the entries directly in a folder, sorted by name; an empty list if there is no such folder."""
    infos = _unless_missing(lambda: _list(filesystem, path)) or []
    entries = [_entry(filesystem, info) for info in infos if not info["name"].endswith("/")]
    return sorted((entry for entry in entries if entry.exists and entry.path != path), key=lambda entry: entry.name)


def _list(filesystem: AbstractFileSystem, path: str) -> list[dict[str, Any]]:
    filesystem.invalidate_cache()  # not every file system can be told not to keep listings
    infos: list[dict[str, Any]] = filesystem.ls(path, detail=True)
    return infos


def _info(filesystem: AbstractFileSystem, path: str) -> dict[str, Any]:
    filesystem.invalidate_cache()
    info: dict[str, Any] = filesystem.info(path)
    return info


def _unless_missing(operation: Callable[[], T]) -> T | None:
    """Return the result of ``operation``, None if there is no such file; a missing bucket is an error."""
    try:
        return with_retries(operation)
    except (FileNotFoundError, NotADirectoryError) as error:
        answer = answer_of(error)
        if answer and answer.code == "NoSuchBucket":
            raise
        return None


def _entry(filesystem: AbstractFileSystem, info: Mapping[str, Any], path: str | None = None) -> Entry:
    """Return what fsspec says about a file (at ``path``, or in a listing) as an entry; links are followed."""
    if path is None and info.get("islink"):
        return file_info(filesystem, info["name"])  # a local listing does not say what a link leads to
    path = path or info["name"]
    # A server of pages answers for a folder with a page: only the slash tells it from a file.
    is_folder = info["type"] == "directory" or path.endswith("/")
    is_file = info["type"] == "file" and not is_folder
    size = info.get("size") or 0
    return Entry(path, is_file, is_folder, size if is_file else 0, _modified(info))


def _modified(info: Mapping[str, Any]) -> float | None:
    found = next((info[name] for name in TIMES if info.get(name)), None)
    if isinstance(found, datetime):
        return found.timestamp()
    return found if isinstance(found, int | float) else None


def delete_file(filesystem: AbstractFileSystem, path: str) -> None:
    """Delete a file; do nothing if there is none."""
    refuse_read_only(filesystem, path)
    delete = partial(os.unlink, path) if is_local(filesystem) else partial(filesystem.rm_file, path)
    with suppress(FileNotFoundError):  # also raised if an attempt succeeds, its answer is lost, and it is retried
        with_retries(delete)


def delete_folder(filesystem: AbstractFileSystem, path: str) -> None:
    """Delete a folder and its content; do nothing if there is none."""
    refuse_read_only(filesystem, path)
    if is_local(filesystem):
        with suppress(FileNotFoundError):
            filesystem.rm(path, recursive=True)
        return
    # File by file: rm() would take [, ? and * in the path for a glob, and of many files at once leave those standing
    # that the store refused to delete, without a word.
    files = all_files(filesystem, path)
    with ThreadPoolExecutor(PARALLEL_DELETIONS) as pool:
        list(pool.map(partial(delete_file, filesystem), files))
    # Some stores list a folder that has become empty until the object folder/ is deleted. The deepest go first.
    for folder in sorted({path, *(file.rpartition("/")[0] for file in files)}, reverse=True):
        delete_file(filesystem, f"{folder}/")


def all_files(filesystem: AbstractFileSystem, folder: str) -> list[str]:
    """Return the paths of all files in a folder, at any depth; local links are followed.

    In a store some may end in ``/``: empty objects by which other tools mark a folder.
    """
    if is_local(filesystem):
        walk = os.walk(folder, onerror=_raise, followlinks=True)
        return [f"{root}/{name}" for root, _, names in walk for name in names]
    found = list_tree(filesystem, folder)
    return [entry.path for entry in found if entry.is_file or entry.path.endswith("/")]


def list_tree(filesystem: AbstractFileSystem, folder: str) -> list[Entry]:
    """Return all files and folders in a folder of a store, at any depth."""
    infos = _unless_missing(lambda: _find(filesystem, folder)) or []
    return [_entry(filesystem, info) for info in infos if info["name"] != folder]


def _find(filesystem: AbstractFileSystem, folder: str) -> list[dict[str, Any]]:
    filesystem.invalidate_cache()
    return list(filesystem.find(folder, withdirs=True, detail=True).values())


def _raise(error: OSError) -> None:
    raise error
