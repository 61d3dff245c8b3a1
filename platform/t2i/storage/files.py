"""Read, write, list and delete files of any file system; everything is retried (:mod:`t2i.storage.retry`)."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow.fs as pafs

from t2i.storage.errors import as_data_error
from t2i.storage.paths import filesystem_for
from t2i.storage.retry import TruncatedReadError, with_retries
from t2i.storage.transfer import open_whole


def read_file(uri: str | Path) -> bytes:
    """Return the content of a file.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    filesystem, path = filesystem_for(uri)
    with as_data_error(uri):
        return read_path(filesystem, path)


def read_path(filesystem: pafs.FileSystem, path: str) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: as the file system raises it.
    """
    return with_retries(partial(_read, filesystem, path))


def _read(filesystem: pafs.FileSystem, path: str) -> bytes:
    with filesystem.open_input_file(path) as file:
        data: bytes = file.read()
        if len(data) != file.size():
            raise TruncatedReadError(f"only {len(data)} of {file.size()} bytes of {path} were received")
        return data


def write_file(filesystem: pafs.FileSystem, path: str, data: bytes) -> None:
    """Write a file so that readers see all of it or the old one (locally by renaming, on S3 as one upload)."""
    with_retries(partial(_write, filesystem, path, data))


def _write(filesystem: pafs.FileSystem, path: str, data: bytes) -> None:
    with open_whole(filesystem, path) as file:
        file.write(data)


def file_info(filesystem: pafs.FileSystem, path: str) -> pafs.FileInfo:
    """Return the type (file, folder or not found) and the size of what is at ``path``."""
    return with_retries(lambda: filesystem.get_file_info(path))


def list_folder(filesystem: pafs.FileSystem, path: str) -> list[pafs.FileInfo]:
    """Return the entries directly in a folder, sorted by name; an empty list if there is no such folder."""
    selector = pafs.FileSelector(path, allow_not_found=True)
    return sorted(with_retries(lambda: filesystem.get_file_info(selector)), key=lambda info: info.base_name)


def delete_file(filesystem: pafs.FileSystem, path: str) -> None:
    """Delete a file; do nothing if there is none."""
    with suppress(FileNotFoundError):  # also raised if an attempt succeeds, its answer is lost, and it is retried
        with_retries(lambda: filesystem.delete_file(path))


def delete_folder(filesystem: pafs.FileSystem, path: str) -> None:
    """Delete a folder and its content; do nothing if there is none."""
    with suppress(FileNotFoundError):
        with_retries(lambda: filesystem.delete_dir(path))
