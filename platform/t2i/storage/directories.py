"""Whole directories with a manifest, to and from a store."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pyarrow.fs as pafs

from models.manifest import MANIFEST, complete_manifests, is_manifest, manifest_hashes, verify
from t2i.storage.errors import DataError, as_data_error
from t2i.storage.files import delete_file, list_folder, read_path
from t2i.storage.paths import filesystem_for
from t2i.storage.transfer import download, upload

A_DAY = 86_400
"""Seconds without use after which a local copy of a remote directory may be deleted."""


def put_directory(directory: str | Path, uri: str) -> None:
    """Copy a local directory to ``uri``, its manifest last, so that a copy cut short is not taken for whole.

    Raises:
        DataError: a file cannot be written, or is not what the directory's manifest says.
    """
    filesystem, target = filesystem_for(uri)
    directory = Path(directory)
    expected = manifest_hashes(directory)
    files = sorted(file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file())
    manifests = [name for name in files if is_manifest(name)]
    with as_data_error(uri):
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
    with as_data_error(uri):
        names = [info.base_name for info in list_folder(filesystem, source) if info.is_file]
        manifests = {name: read_path(filesystem, f"{source}/{name}") for name in complete_manifests(names, str(uri))}
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
        for name in manifest_hashes(copy):
            with suppress(FileNotFoundError):  # verify() says it in the words of a broken checkpoint
                download(filesystem, f"{source}/{name}", copy / name)
        verify(copy)
        try:
            copy.rename(cache)
        except OSError:
            if not cache.is_dir():  # else another process of this node was first
                raise
