"""Copy files of any size between the local disk and a store, in pieces of bounded memory."""

from __future__ import annotations

import errno
import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fsspec import AbstractFileSystem

from models.files import replacing
from models.manifest import file_hash
from t2i.storage.files import file_info, refuse_read_only
from t2i.storage.paths import is_local
from t2i.storage.retry import TruncatedReadError, with_retries

CHUNK_BYTES = 16 << 20
"""Bytes that are read at once; a download holds :data:`PARALLEL_CHUNKS` such pieces in memory."""

PARALLEL_CHUNKS = 8
"""Pieces of a file that are downloaded at the same time: a single stream leaves most of the bandwidth unused."""


def upload(file: Path, filesystem: AbstractFileSystem, path: str) -> str:
    """Copy a local file to ``path``, replacing it as a whole, and return the SHA-256 of the file.

    An upload that fails is taken back. If the process is killed, ``path`` stays as it was, and the pieces that had
    arrived stay in the bucket until its lifecycle rule ``AbortIncompleteMultipartUpload`` removes them.

    Raises:
        OSError: one of them cannot be read or written; ``path`` is then as it was.
    """
    refuse_read_only(filesystem, path)
    if is_local(filesystem):
        with replacing(Path(path)) as copy:
            shutil.copyfile(file, copy)
            return file_hash(copy)
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(file_hash, file)  # meanwhile
        with_retries(partial(_upload, file, filesystem, path))
        return digest.result()


def _upload(file: Path, filesystem: AbstractFileSystem, path: str) -> None:
    filesystem.put_file(str(file), path)
    stored, expected = filesystem.info(path)["size"], file.stat().st_size
    if stored != expected:
        raise TruncatedReadError(f"{path} has {stored} of {expected} bytes")


def download(filesystem: AbstractFileSystem, path: str, file: Path) -> None:
    """Copy the remote ``path`` into the local ``file``.

    Raises:
        OSError: one of them cannot be read or written; ``file`` may then be incomplete.
    """
    size = _size(filesystem, path)
    file.touch()
    with ThreadPoolExecutor(PARALLEL_CHUNKS) as pool:
        for _ in pool.map(partial(_download_chunk, filesystem, path, size, file), range(0, size, CHUNK_BYTES)):
            pass  # the loop re-raises the error of any piece


def _download_chunk(filesystem: AbstractFileSystem, path: str, size: int, file: Path, offset: int) -> None:
    piece = with_retries(partial(_read_chunk, filesystem, path, size, offset))
    with file.open("r+b") as sink:
        sink.seek(offset)
        sink.write(piece)


def sha256(filesystem: AbstractFileSystem, path: str) -> str:
    """Return the SHA-256 of a file, in hex."""
    if is_local(filesystem):
        return file_hash(Path(path))
    digest, size = hashlib.sha256(), _size(filesystem, path)
    for offset in range(0, size, CHUNK_BYTES):
        digest.update(with_retries(partial(_read_chunk, filesystem, path, size, offset)))
    return digest.hexdigest()


def _size(filesystem: AbstractFileSystem, path: str) -> int:
    entry = file_info(filesystem, path)
    if not entry.is_file:
        raise FileNotFoundError(errno.ENOENT, "there is no such file", path)
    return entry.size


def _read_chunk(filesystem: AbstractFileSystem, path: str, size: int, offset: int) -> bytes:
    wanted = min(CHUNK_BYTES, size - offset)
    piece: bytes = filesystem.cat_file(path, start=offset, end=offset + wanted)
    if len(piece) == size:  # from a web server that does not send parts
        piece = piece[offset : offset + wanted]
    if len(piece) != wanted:
        raise TruncatedReadError(f"only {len(piece)} of {wanted} bytes at offset {offset} of {path} were received")
    return piece
