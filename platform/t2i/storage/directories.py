"""Copy directories that have a manifest to a store, and fetch local copies of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from models.manifest import MANIFEST, SHORT, complete_manifests, is_manifest, manifest_hashes, verify
from t2i.storage.errors import DataError, as_data_error
from t2i.storage.files import delete_file, list_folder, read_path
from t2i.storage.paths import filesystem_for, is_local
from t2i.storage.transfer import download, upload

UNUSED_COPY_SECONDS = 86_400
"""A local copy of a remote directory is kept for at least this long (a day) after it was last fetched."""


def put_directory(directory: str | Path, uri: str | Path) -> None:
    """Copy a local directory to ``uri``; a copy that is interrupted is never taken for complete.

    Raises:
        DataError: a file cannot be written, or differs from its hash in the directory's manifest.
    """
    filesystem, target = filesystem_for(uri)
    directory = Path(directory)
    expected = manifest_hashes(directory)
    files = sorted(file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file())
    manifests = [name for name in files if is_manifest(name)]
    # A directory counts as complete if its manifest is there, so at every moment of the copy:
    #   1. the old manifests go first:  no manifest, files old           -> incomplete
    #   2. then the files are written:  no manifest, files old and new   -> incomplete
    #   3. the new manifests come last: manifest and files new           -> complete
    # MANIFEST is deleted even if the new directory has none by that name: the old one may have had.
    with as_data_error(uri):
        for name in {MANIFEST, *manifests}:
            delete_file(filesystem, f"{target}/{name}")
        for name in [name for name in files if name not in manifests] + manifests:
            copied = upload(directory / name, filesystem, f"{target}/{name}")
            if copied != expected.get(name, copied):
                raise DataError(f"{directory / name} was changed or damaged after its manifest was written.")


@contextmanager
def new_directory(uri: str | Path) -> Iterator[Path]:
    """Yield an empty local directory, and copy what the block has put there to ``uri``, as :func:`put_directory` does.

    If the block raises, ``uri`` stays as it was.
    """
    with tempfile.TemporaryDirectory() as local:
        yield Path(local)
        put_directory(local, uri)


def fetch_directory(uri: str | Path) -> Path:
    """Return the local path of a directory that has a manifest: itself if it is local, else of a cached copy.

    Copies are cached in the temporary directory by the hash of the manifests' content, so a changed directory is
    fetched anew. Making a new copy deletes those that were not fetched for :data:`UNUSED_COPY_SECONDS`.

    Raises:
        CheckpointError: the directory is incomplete, or a file does not match its hash.
        DataError: the directory cannot be read.
    """
    filesystem, source = filesystem_for(uri)
    if is_local(filesystem):
        return Path(source)
    with as_data_error(uri):
        manifests = _manifests(uri)
        content = hashlib.sha256(b"".join(manifests.values())).hexdigest()
        cache = Path(tempfile.gettempdir()) / f"t2i-{os.getuid()}" / content
        if not cache.is_dir():
            cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(f"{cache}.lock"):  # what several processes of this node start with is fetched by one of them
                if not cache.is_dir():
                    _delete_older(cache.parent, time.time() - UNUSED_COPY_SECONDS)
                    _download(uri, manifests, cache)
        os.utime(cache)  # the time of the last use, which _delete_older() goes by
    return cache


def copy_directory(uri: str | Path, target: Path) -> None:
    """Copy a directory that has a manifest to the local ``target``, where there is all of it or nothing.

    If ``target`` has come into being meanwhile, it stays as it is.

    Raises:
        CheckpointError: the directory is incomplete, or a file does not match its hash.
        DataError: the directory cannot be read, or the copy not be written.
    """
    with as_data_error(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with as_data_error(uri):
        _download(uri, _manifests(uri), target)


def _manifests(uri: str | Path) -> dict[str, bytes]:
    """Return name -> content of the manifests that make a directory complete."""
    filesystem, source = filesystem_for(uri)
    names = [entry.name for entry in list_folder(filesystem, source) if entry.is_file]
    return {name: read_path(filesystem, f"{source}/{name}") for name in complete_manifests(names, str(uri))}


def _delete_older(folder: Path, than: float) -> None:
    """Delete the copies in ``folder`` that were last used before the time ``than`` (seconds since 1970)."""
    for copy in folder.iterdir():  # files are copies, too, or locks
        with suppress(FileNotFoundError):  # another process of this node is deleting it at the same time
            if copy.lstat().st_mtime < than:
                if copy.is_dir():
                    shutil.rmtree(copy)
                else:
                    copy.unlink()


def _download(uri: str | Path, manifests: dict[str, bytes], target: Path) -> None:
    """Fetch and verify the files that ``manifests`` (name -> content) list, and move them to ``target`` as a whole."""
    filesystem, source = filesystem_for(uri)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name[:SHORT]}.") as partial_copy:
        copy = Path(partial_copy, "copy")
        copy.mkdir()
        for name, content in manifests.items():
            (copy / name).write_bytes(content)
        for name in manifest_hashes(copy):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # verify() below raises the better error for a missing file
                download(filesystem, f"{source}/{name}", copy / name)
        verify(copy, uri)
        # Only a verified copy gets its final name, in one step: other processes of this node, which look for that
        # name, see all of it or nothing. If one of them was faster the rename fails, and its copy is as good.
        try:
            copy.rename(target)
        except OSError:
            if not target.is_dir():
                raise
