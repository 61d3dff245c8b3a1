"""Files and directories under a local path or ``s3://bucket/key``, by one set of functions.

S3 takes its endpoint, region and credentials from the standard ``AWS_*`` environment variables
(``AWS_ENDPOINT_URL`` for a server of one's own). Workers get the driver's endpoint, never its credentials:
each node needs its own. A store that is busy or gone for a while is asked again: see :mod:`t2i.data.patience`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath

import pyarrow.fs as pafs

from models.manifest import MANIFEST, is_manifest, named_hashes, verify, whole_set
from t2i.data.errors import DataError
from t2i.data.patience import Truncated, calmly
from t2i.data.s3 import connect
from t2i.data.transfer import download, upload, writing

WILDCARDS = "*?["
A_DAY = 86_400
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
    with refusing(uri):
        return connect(bucket), rest.rstrip("/")


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
    with refusing(uri):
        info = file_info(filesystem, base)
        if info.type == pafs.FileType.NotFound:
            raise DataError(f"path is {uri!r}: there is no such file or folder.")
        if info.type == pafs.FileType.File:
            return filesystem, [base]
        found = calmly(lambda: filesystem.get_file_info(pafs.FileSelector(base, recursive=True)))
    files = sorted(entry.path for entry in found if entry.is_file and _wanted(entry.path, path, suffix))
    if not files:
        raise DataError(f"path is {uri!r}: it holds nothing that ends in {suffix or 'a known suffix'}.")
    if any(file.startswith(f"{base}/{ATTEMPT}") for file in files):
        files = sorted(_named_parts(filesystem, base) & set(files))
    return filesystem, files


def _named_parts(filesystem: pafs.FileSystem, folder: str) -> set[str]:
    """The parts of a set that was written whole; a killed writer leaves others beside them, or no manifest at all."""
    manifest = f"{folder}/{MANIFEST}"
    if not file_info(filesystem, manifest).is_file:
        raise DataError(f"path is {folder!r}: it is not complete, so run the job that writes it to its end.")
    return {f"{folder}/{name}" for name in json.loads(read_path(filesystem, manifest))["files"]}


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
    with refusing(uri):
        return read_path(filesystem, path)


def read_path(filesystem: pafs.FileSystem, path: str) -> bytes:
    """The bytes of a file; OSError as the file system raises it."""
    return calmly(partial(_read, filesystem, path))


def _read(filesystem: pafs.FileSystem, path: str) -> bytes:
    with filesystem.open_input_file(path) as file:
        data = file.read()
        if len(data) != file.size():
            raise Truncated(f"{len(data)} of {file.size()} bytes came of {path}")
        return data


def write_file(filesystem: pafs.FileSystem, path: str, data: bytes) -> None:
    """Write a file that is seen whole or not at all (locally by renaming, on S3 as one upload)."""
    calmly(partial(_write, filesystem, path, data))


def _write(filesystem: pafs.FileSystem, path: str, data: bytes) -> None:
    with writing(filesystem, path) as file:
        file.write(data)


def file_info(filesystem: pafs.FileSystem, path: str) -> pafs.FileInfo:
    """Whether there is a file or folder at ``path``, and its size."""
    return calmly(lambda: filesystem.get_file_info(path))


def list_folder(filesystem: pafs.FileSystem, path: str) -> list[pafs.FileInfo]:
    """What is directly in a folder, by name; nothing where there is none."""
    selector = pafs.FileSelector(path, allow_not_found=True)
    return sorted(calmly(lambda: filesystem.get_file_info(selector)), key=lambda info: info.base_name)


def delete_file(filesystem: pafs.FileSystem, path: str) -> None:
    """Delete a file, if it is there (an answer may be lost: the second attempt then finds nothing)."""
    with suppress(FileNotFoundError):
        calmly(lambda: filesystem.delete_file(path))


def delete_folder(filesystem: pafs.FileSystem, path: str) -> None:
    """Delete a folder with all that is in it, if it is there."""
    with suppress(FileNotFoundError):
        calmly(lambda: filesystem.delete_dir(path))


def put_directory(directory: str | Path, uri: str) -> None:
    """Copy a local directory to ``uri``, its manifest last, so that a copy cut short is not taken for whole.

    Raises:
        DataError: a file cannot be written, or is not what the directory's manifest says.
    """
    filesystem, target = filesystem_for(uri)
    directory = Path(directory)
    expected = named_hashes(directory)
    files = sorted(file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file())
    manifests = [name for name in files if is_manifest(name)]
    with refusing(uri):
        for name in {MANIFEST, *manifests}:
            delete_file(filesystem, f"{target}/{name}")
        for name in [name for name in files if name not in manifests] + manifests:
            copied = upload(directory / name, filesystem, f"{target}/{name}")
            if copied != expected.get(name, copied):
                raise DataError(f"{directory / name} was changed or damaged after its manifest was written.")


def fetch_directory(uri: str | Path) -> Path:
    """A local path of a directory that has a manifest: itself, or a copy kept per content of the manifest(s).

    A copy that nobody has asked for in a day makes room for the next.

    Raises:
        CheckpointError: it is not whole, or a file came damaged.
        DataError: it cannot be read.
    """
    filesystem, source = filesystem_for(uri)
    if isinstance(filesystem, pafs.LocalFileSystem):
        return Path(source)
    with refusing(uri):
        names = [info.base_name for info in list_folder(filesystem, source) if info.is_file]
        manifests = {name: read_path(filesystem, f"{source}/{name}") for name in whole_set(names, str(uri))}
        content = hashlib.sha256(b"".join(manifests.values())).hexdigest()
        cache = Path(tempfile.gettempdir()) / f"t2i-{os.getuid()}" / content
        if not cache.is_dir():
            cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _delete_older(cache.parent, time.time() - A_DAY)
            _download(filesystem, source, manifests, cache)
        os.utime(cache)
    return cache


def _delete_older(folder: Path, than: float) -> None:
    """Delete the folders in ``folder`` that were last used before ``than``, in seconds since 1970."""
    for copy in folder.iterdir():
        with suppress(FileNotFoundError):  # another process of this node deletes it, too
            if copy.stat().st_mtime < than:
                shutil.rmtree(copy)


def _download(filesystem: pafs.FileSystem, source: str, manifests: dict[str, bytes], cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache.parent) as partial_copy:
        copy = Path(partial_copy, "copy")
        copy.mkdir()
        for name, content in manifests.items():
            (copy / name).write_bytes(content)
        for name in named_hashes(copy):
            with suppress(FileNotFoundError):  # verify() says it in the words of a broken checkpoint
                download(filesystem, f"{source}/{name}", copy / name)
        verify(copy)
        try:
            copy.rename(cache)
        except OSError:
            if not cache.is_dir():  # else another process of this node was first
                raise


@contextmanager
def refusing(uri: str | Path) -> Iterator[None]:
    """Turn what a file system raises into one sentence."""
    try:
        yield
    except OSError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"path is {str(uri)!r}: it cannot be used ({reason}).") from error
