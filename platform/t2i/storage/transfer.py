"""Copy files of any size between the local disk and a store, in pieces of bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from models.files import replacing
from t2i.storage.retry import TruncatedReadError, with_retries

CHUNK_BYTES = 16 << 20
"""Bytes that are read or written at once; a transfer holds a few such pieces in memory."""

PARALLEL_CHUNKS = 8
"""Pieces of a file that are downloaded at the same time: a single stream leaves most of the bandwidth unused."""


@contextmanager
def open_whole(filesystem: pafs.FileSystem, path: str) -> Iterator[pa.NativeFile]:
    """Open a stream that replaces the file ``path`` if the block ends without an error.

    If the block raises, a local file stays as it was, and an object on S3 is deleted (see below). If the process is
    killed, both stay as they were; the parts of its unfinished upload stay in the bucket until a lifecycle rule
    ``AbortIncompleteMultipartUpload`` removes them.
    """
    if isinstance(filesystem, pafs.LocalFileSystem):
        with _writing_locally(filesystem, path) as file:
            yield file
        return
    # An S3 object appears when its upload is completed, which is what close() does. pyarrow has no way to abort an
    # upload, and closes a stream when it is garbage collected. So after an error:
    #   close() succeeds -> half of the content is there and looks like a whole file: delete it
    #   close() raises   -> the upload itself had failed: nothing was replaced, and nothing is deleted
    stream = filesystem.open_output_stream(path)
    try:
        yield stream
    except BaseException:
        with suppress(OSError):
            stream.close()
            filesystem.delete_file(path)
        raise
    stream.close()


@contextmanager
def _writing_locally(filesystem: pafs.LocalFileSystem, path: str) -> Iterator[pa.NativeFile]:
    with replacing(Path(path)) as temporary, filesystem.open_output_stream(str(temporary)) as file:
        yield file


def upload(file: Path, filesystem: pafs.FileSystem, path: str) -> str:
    """Copy a local file to ``path`` and return the SHA-256 of what was copied.

    Raises:
        OSError: one of them cannot be read or written; ``path`` is then as it was.
    """
    return with_retries(partial(_upload, file, filesystem, path))


def _upload(file: Path, filesystem: pafs.FileSystem, path: str) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as source, open_whole(filesystem, path) as sink:
        while piece := source.read(CHUNK_BYTES):
            digest.update(piece)
            sink.write(piece)
    stored = filesystem.get_file_info(path).size
    if stored != file.stat().st_size:
        raise TruncatedReadError(f"{path} has {stored} of {file.stat().st_size} bytes")
    return digest.hexdigest()


def download(filesystem: pafs.FileSystem, path: str, file: Path) -> None:
    """Copy the remote ``path`` into the local ``file``.

    Raises:
        OSError: one of them cannot be read or written; ``file`` may then be incomplete.
    """
    file.touch()
    with with_retries(partial(filesystem.open_input_file, path)) as source, ThreadPoolExecutor(PARALLEL_CHUNKS) as pool:
        for _ in pool.map(partial(_download_chunk, source, file), range(0, source.size(), CHUNK_BYTES)):
            pass  # the loop re-raises the error of any piece


def _download_chunk(source: pa.NativeFile, file: Path, offset: int) -> None:
    piece = with_retries(partial(_read_chunk, source, offset))
    with file.open("r+b") as sink:
        sink.seek(offset)
        sink.write(piece)


def sha256(filesystem: pafs.FileSystem, path: str) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with with_retries(partial(filesystem.open_input_file, path)) as source:
        for offset in range(0, source.size(), CHUNK_BYTES):
            digest.update(with_retries(partial(_read_chunk, source, offset)))
    return digest.hexdigest()


def _read_chunk(source: pa.NativeFile, offset: int) -> bytes:
    wanted = min(CHUNK_BYTES, source.size() - offset)
    piece: bytes = source.read_at(wanted, offset)
    if len(piece) != wanted:
        raise TruncatedReadError(f"only {len(piece)} of {wanted} bytes at offset {offset} were received")
    return piece
