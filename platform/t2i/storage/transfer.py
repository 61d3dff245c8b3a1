"""Files of any size between a local disk and a store, in pieces, and whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from models.files import replacing as replacing_file
from t2i.storage.retry import TruncatedRead, with_retries

CHUNK_BYTES = 16 << 20
"""Bytes that are read or written at once: a few of them are all the memory that a transfer takes."""

PARALLEL_CHUNKS = 8
"""Pieces of a file that are fetched at the same time: one stream alone leaves most of a store's bandwidth unused."""


@contextmanager
def replacing(filesystem: pafs.FileSystem, path: str) -> Iterator[pa.NativeFile]:
    """A stream into ``path``, which is replaced when the block ends well, and stays as it was when it raises.

    Closing a stream into S3 completes its upload, and pyarrow closes it come what may: what a block that raised had
    written would look whole. So it is deleted again. A process that is killed instead completes nothing; the pieces
    it left are the bucket's to expire (a lifecycle rule ``AbortIncompleteMultipartUpload``).
    """
    if isinstance(filesystem, pafs.LocalFileSystem):
        with _writing_locally(filesystem, path) as file:
            yield file
        return
    stream = filesystem.open_output_stream(path)
    try:
        yield stream
    except BaseException:
        with suppress(OSError):
            stream.close()  # where the upload itself has failed this raises: nothing came of it, and nothing goes
            filesystem.delete_file(path)
        raise
    stream.close()


@contextmanager
def _writing_locally(filesystem: pafs.LocalFileSystem, path: str) -> Iterator[pa.NativeFile]:
    with replacing_file(Path(path)) as temporary, filesystem.open_output_stream(str(temporary)) as file:
        yield file


def upload(file: Path, filesystem: pafs.FileSystem, path: str) -> str:
    """Copy a local file to ``path`` and return the SHA-256 of what was copied.

    Raises:
        OSError: it cannot be read or written; ``path`` is as it was.
    """
    return with_retries(partial(_upload, file, filesystem, path))


def _upload(file: Path, filesystem: pafs.FileSystem, path: str) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as source, replacing(filesystem, path) as sink:
        while piece := source.read(CHUNK_BYTES):
            digest.update(piece)
            sink.write(piece)
    stored = filesystem.get_file_info(path).size
    if stored != file.stat().st_size:
        raise TruncatedRead(f"{path} has {stored} of {file.stat().st_size} bytes")
    return digest.hexdigest()


def download(filesystem: pafs.FileSystem, path: str, file: Path) -> None:
    """Copy ``path`` into a local file.

    Raises:
        OSError: it cannot be read or written; the file may then be incomplete.
    """
    file.touch()
    with with_retries(partial(filesystem.open_input_file, path)) as source, ThreadPoolExecutor(PARALLEL_CHUNKS) as pool:
        for _ in pool.map(partial(_download_chunk, source, file), range(0, source.size(), CHUNK_BYTES)):
            pass  # an error of any piece is raised here


def _download_chunk(source: pa.NativeFile, file: Path, offset: int) -> None:
    piece = with_retries(partial(_read_chunk, source, offset))
    with file.open("r+b") as sink:
        sink.seek(offset)
        sink.write(piece)


def sha256(filesystem: pafs.FileSystem, path: str) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with with_retries(partial(filesystem.open_input_file, path)) as source:
        for offset in range(0, source.size(), CHUNK_BYTES):
            digest.update(with_retries(partial(_read_chunk, source, offset)))
    return digest.hexdigest()


def _read_chunk(source: pa.NativeFile, offset: int) -> bytes:
    wanted = min(CHUNK_BYTES, source.size() - offset)
    piece = source.read_at(wanted, offset)
    if len(piece) != wanted:
        raise TruncatedRead(f"{len(piece)} of {wanted} bytes came at offset {offset}")
    return piece
