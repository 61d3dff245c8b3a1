"""File systems of fsspec as pyarrow's, for Ray Data, Ray Train and ``pyarrow.parquet``; everything is retried."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
from fsspec import AbstractFileSystem

from t2i.storage.files import (
    Entry,
    delete_file,
    delete_folder,
    file_info,
    is_http,
    list_folder,
    list_tree,
    write_file,
)
from t2i.storage.paths import is_local
from t2i.storage.retry import TruncatedReadError, with_retries


def arrow_filesystem(filesystem: AbstractFileSystem) -> pafs.FileSystem:
    """Return ``filesystem`` as one of pyarrow, with the same paths. It can be pickled; it carries no credentials."""
    return pafs.LocalFileSystem() if is_local(filesystem) else pafs.PyFileSystem(StoreHandler(filesystem))


class StoreHandler(pafs.FSSpecHandler):  # type: ignore[misc]  # pyarrow is untyped
    """Answers pyarrow by our own operations.

    pyarrow's handler takes a store that does not answer for one without the file, makes buckets, and retries nothing.
    """

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        """Return what is at each path."""
        return [_arrow_info(file_info(self.fs, path)) for path in paths]

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        """Return the entries of a folder, or with ``recursive`` all that is below it."""
        folder = selector.base_dir
        if not selector.allow_not_found and not file_info(self.fs, folder).is_folder:
            raise FileNotFoundError(folder)
        found = list_tree(self.fs, folder) if selector.recursive else list_folder(self.fs, folder)
        return [_arrow_info(entry) for entry in found]

    def create_dir(self, path: str, recursive: bool) -> None:
        """Do nothing: folders of a store are names alone, and a bucket is not made in passing."""

    def delete_dir(self, path: str) -> None:
        """Delete a folder and its content."""
        delete_folder(self.fs, path)

    def delete_file(self, path: str) -> None:
        """Delete a file."""
        delete_file(self.fs, path)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Open a file to read it from its beginning on."""
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file to read parts of it, of which exactly the bytes asked for are fetched."""
        if is_http(self.fs):
            first = with_retries(partial(self.fs.cat_file, path, start=0, end=1))
            if len(first) > 1:
                return pa.BufferReader(first)  # the whole file, from a server that does not send parts
        file = with_retries(partial(self.fs.open, path, "rb", cache_type="none"))
        return pa.PythonFile(RetriedReads(file), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:  # noqa: ARG002  pyarrow's signature
        """Open a stream whose content, kept in memory, is written as a whole when it is closed."""
        return pa.PythonFile(WholeWrite(self.fs, path), mode="w")


class RetriedReads(io.RawIOBase):
    """A file open for reading, each read of which is retried."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        """Return ``size`` bytes, fewer only at the end of the file."""
        at = self._file.tell()
        wanted = max(self._size - at, 0) if size < 0 else min(size, max(self._size - at, 0))
        return with_retries(partial(self._read, at, wanted))

    def _read(self, at: int, wanted: int) -> bytes:
        self._file.seek(at)
        data: bytes = self._file.read(wanted)
        if len(data) != wanted:
            raise TruncatedReadError(f"only {len(data)} of {wanted} bytes at offset {at} were received")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another place and return it."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the place that is read next."""
        return int(self._file.tell())

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True


class WholeWrite(io.BytesIO):
    """A buffer that becomes the file ``path`` when it is closed."""

    def __init__(self, filesystem: AbstractFileSystem, path: str) -> None:
        super().__init__()
        self._filesystem, self._path = filesystem, path

    def close(self) -> None:
        """Write the file."""
        if not self.closed:
            write_file(self._filesystem, self._path, self.getvalue())
        super().close()

    def __del__(self) -> None:
        """Write nothing, where io's would: what was never closed was interrupted."""


def _arrow_info(entry: Entry) -> pafs.FileInfo:
    if entry.is_file:
        return pafs.FileInfo(entry.path, pafs.FileType.File, size=entry.size, mtime=entry.modified)
    return pafs.FileInfo(entry.path, pafs.FileType.Directory if entry.is_folder else pafs.FileType.NotFound)
