"""Single files and folders of any file system; a store that does not answer is asked again (see t2i.storage.retry)."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow.fs as pafs

from t2i.storage.errors import as_data_error
from t2i.storage.paths import filesystem_for
from t2i.storage.retry import TruncatedRead, with_retries
from t2i.storage.transfer import replacing


def read_file(uri: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: it is not there or cannot be read.
    """
    filesystem, path = filesystem_for(uri)
    with as_data_error(uri):
        return read_path(filesystem, path)


def read_path(filesystem: pafs.FileSystem, path: str) -> bytes:
    """The bytes of a file; OSError as the file system raises it."""
    return with_retries(partial(_read, filesystem, path))


def _read(filesystem: pafs.FileSystem, path: str) -> bytes:
    with filesystem.open_input_file(path) as file:
        data = file.read()
        if len(data) != file.size():
            raise TruncatedRead(f"{len(data)} of {file.size()} bytes came of {path}")
        return data


def write_file(filesystem: pafs.FileSystem, path: str, data: bytes) -> None:
    """Write a file that is seen whole or not at all (locally by renaming, on S3 as one upload)."""
    with_retries(partial(_write, filesystem, path, data))


def _write(filesystem: pafs.FileSystem, path: str, data: bytes) -> None:
    with replacing(filesystem, path) as file:
        file.write(data)


def file_info(filesystem: pafs.FileSystem, path: str) -> pafs.FileInfo:
    """Whether there is a file or folder at ``path``, and its size."""
    return with_retries(lambda: filesystem.get_file_info(path))


def list_folder(filesystem: pafs.FileSystem, path: str) -> list[pafs.FileInfo]:
    """What is directly in a folder, by name; nothing where there is none."""
    selector = pafs.FileSelector(path, allow_not_found=True)
    return sorted(with_retries(lambda: filesystem.get_file_info(selector)), key=lambda info: info.base_name)


def delete_file(filesystem: pafs.FileSystem, path: str) -> None:
    """Delete a file, if it is there (an answer may be lost: the second attempt then finds nothing)."""
    with suppress(FileNotFoundError):
        with_retries(lambda: filesystem.delete_file(path))


def delete_folder(filesystem: pafs.FileSystem, path: str) -> None:
    """Delete a folder with all that is in it, if it is there."""
    with suppress(FileNotFoundError):
        with_retries(lambda: filesystem.delete_dir(path))
