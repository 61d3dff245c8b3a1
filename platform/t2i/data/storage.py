"""Files and directories under a local path or ``s3://bucket/key``, by one set of functions.

S3 takes its endpoint, region and credentials from the standard ``AWS_*`` environment variables
(``AWS_ENDPOINT_URL`` for a server of one's own). Workers get the driver's endpoint, never its credentials:
each node needs its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pyarrow.fs as pafs

from models.manifest import MANIFEST
from t2i.data.errors import DataError

WILDCARDS = "*?["
ATTEMPT = "attempt-"
"""How the folders begin that :mod:`t2i.data.parts` writes into."""


def filesystem_for(uri: str | Path) -> tuple[pafs.FileSystem, str]:
    """Return the file system of ``uri`` and the path inside it (local paths are made absolute).

    Raises:
        DataError: the scheme is neither local nor ``s3://``, or S3 cannot be reached.
    """
    scheme, separator, rest = str(uri).rpartition("://")
    if not separator:
        return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    bucket = rest.split("/")[0]
    if scheme != "s3" or not bucket:
        raise DataError(f"path is {str(uri)!r}: use a local path or s3://bucket/key.")
    with _refusing(uri):
        return pafs.FileSystem.from_uri(f"s3://{bucket}")[0], rest.rstrip("/")


def absolute(uri: str | Path) -> str:
    """``uri`` in a form that means the same on every worker, whatever its working directory."""
    return str(uri) if "://" in str(uri) else filesystem_for(uri)[1]


def list_files(uri: str, suffix: str) -> tuple[pafs.FileSystem, list[str]]:
    """The files that end in ``suffix`` in a folder (recursively) or glob, or the one file ``uri``; sorted.

    In a folder that :func:`t2i.data.parts.write_parts` has written, these are the parts its manifest names.

    Raises:
        DataError: nothing is there, nothing with that suffix, or a set whose writer has not finished.
    """
    filesystem, path = filesystem_for(uri)
    base = _above_wildcards(path)
    with _refusing(uri):
        info = filesystem.get_file_info(base)
        if info.type == pafs.FileType.NotFound:
            raise DataError(f"path is {uri!r}: there is no such file or folder.")
        if info.type == pafs.FileType.File:
            return filesystem, [base]
        found = filesystem.get_file_info(pafs.FileSelector(base, recursive=True))
    files = sorted(entry.path for entry in found if entry.is_file and _wanted(entry.path, path, suffix))
    if not files:
        raise DataError(f"path is {uri!r}: it holds nothing that ends in {suffix or 'a known suffix'}.")
    if any(file.startswith(f"{base}/{ATTEMPT}") for file in files):
        files = sorted(_named_parts(filesystem, base) & set(files))
    return filesystem, files


def _named_parts(filesystem: pafs.FileSystem, folder: str) -> set[str]:
    """The parts of a set that was written whole; a killed writer leaves others beside them, or no manifest at all."""
    manifest = f"{folder}/{MANIFEST}"
    if not filesystem.get_file_info(manifest).is_file:
        raise DataError(f"path is {folder!r}: it is not complete, so run the job that writes it to its end.")
    with filesystem.open_input_file(manifest) as file:
        return {f"{folder}/{name}" for name in json.loads(file.read())["files"]}


def _above_wildcards(path: str) -> str:
    parts = path.split("/")
    fixed = next((i for i, part in enumerate(parts) if set(part) & set(WILDCARDS)), len(parts))
    return "/".join(parts[:fixed]) or "/"


def _wanted(file: str, path: str, suffix: str) -> bool:
    if not file.endswith(suffix) or PurePosixPath(file).name.startswith((".", "_")):
        return False
    return _above_wildcards(path) == path or PurePosixPath("/", file).match(f"/{path.lstrip('/')}")


def read_file(uri: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: it is not there or cannot be read.
    """
    filesystem, path = filesystem_for(uri)
    with _refusing(uri), filesystem.open_input_file(path) as file:
        return file.read()


def write_file(filesystem: pafs.FileSystem, path: str, data: bytes) -> None:
    """Write a file that is seen whole or not at all (locally by renaming, on S3 as one upload)."""
    local = isinstance(filesystem, pafs.LocalFileSystem)
    target = f"{path}.{uuid.uuid4().hex[:8]}.part" if local else path
    if local:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with filesystem.open_output_stream(target) as file:
        file.write(data)
    if local:
        filesystem.move(target, path)


def sha256(filesystem: pafs.FileSystem, path: str) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with filesystem.open_input_stream(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def put_directory(directory: str | Path, uri: str) -> None:
    """Copy a local directory to ``uri``, manifest last, so that a copy cut short is not taken for whole."""
    filesystem, target = filesystem_for(uri)
    files = sorted(file for file in Path(directory).rglob("*") if file.is_file())
    files.sort(key=lambda file: file == Path(directory) / MANIFEST)
    with _refusing(uri):
        if filesystem.get_file_info(f"{target}/{MANIFEST}").is_file:
            filesystem.delete_file(f"{target}/{MANIFEST}")
        for file in files:
            write_file(filesystem, f"{target}/{file.relative_to(directory).as_posix()}", file.read_bytes())


def fetch_directory(uri: str | Path) -> Path:
    """A local path of a directory that has a manifest: itself, or a copy kept per content of the manifest.

    Raises:
        DataError: there is no manifest under ``uri``.
    """
    filesystem, source = filesystem_for(uri)
    if isinstance(filesystem, pafs.LocalFileSystem):
        return Path(source)
    name = hashlib.sha256(read_file(f"{uri}/{MANIFEST}")).hexdigest()
    cache = Path(tempfile.gettempdir()) / f"t2i-{os.getuid()}" / name
    if not cache.is_dir():
        _download(filesystem, source, cache)
    return cache


def _download(filesystem: pafs.FileSystem, source: str, cache: Path) -> None:
    cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as partial, _refusing(f"s3://{source}"):
        copy = Path(partial, "copy")
        copy.mkdir()
        pafs.copy_files(source, str(copy), filesystem, pafs.LocalFileSystem())
        try:
            copy.rename(cache)
        except OSError:
            if not cache.is_dir():  # else another process of this node was first
                raise


@contextmanager
def _refusing(uri: str | Path) -> Iterator[None]:
    """Turn what a file system raises into one sentence."""
    try:
        yield
    except OSError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"path is {str(uri)!r}: it cannot be used ({reason}).") from error
