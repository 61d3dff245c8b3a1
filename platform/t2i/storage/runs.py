"""What models are made of, where it lies in a store, as local files: a run's models, or a single file of weights."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from models.run_layout import RunLayout
from t2i.config import MODEL_STORE
from t2i.storage.directories import fetch_directory
from t2i.storage.errors import as_data_error
from t2i.storage.files import file_info
from t2i.storage.paths import filesystem_for, is_local
from t2i.storage.transfer import download


def fetch_run(run: str | Path) -> str:
    """Return the local path of a run: itself if it is local, else of a folder that holds copies of its four models.

    The copies are those of :func:`t2i.storage.fetch_directory`, fetched once a node; a model that has changed since is
    fetched anew, into another folder. Of the model store ``models://NAME/VERSION`` can be fetched: what
    :func:`t2i.storage.exact_run` returns.

    Raises:
        CheckpointError: a model is missing, incomplete or damaged.
        DataError: the store cannot be read.
    """
    filesystem, path = filesystem_for(run)
    if is_local(filesystem):
        return path
    if str(run).startswith(MODEL_STORE):
        return str(fetch_directory(run))
    copies = {name: fetch_directory(directory) for name, directory in RunLayout(run).models.items()}
    content = hashlib.sha256("".join(copy.name for copy in copies.values()).encode()).hexdigest()
    local = RunLayout(_cache() / f"run-{content}")
    for name, directory in local.models.items():
        Path(directory).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # linked before, or by another process of this node
            Path(directory).symlink_to(copies[name])
    return str(local.run)


def fetch_file(uri: str | Path) -> Path:
    """Return the local path of a file: itself if it is local, else of a copy, which is fetched once a node.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    filesystem, path = filesystem_for(uri)
    if is_local(filesystem):
        return Path(path)
    with as_data_error(uri):
        found = file_info(filesystem, path)
        if not found.is_file:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(uri))
        state = hashlib.sha256(repr((str(uri), found.size, found.modified)).encode()).hexdigest()
        copy = _cache() / f"file-{state}{Path(path).suffix}"
        if not copy.is_file():
            with tempfile.TemporaryDirectory(dir=copy.parent) as folder:
                download(filesystem, path, Path(folder, "file"))
                Path(folder, "file").rename(copy)
    return copy


def _cache() -> Path:
    """Return the folder for copies on this node, which only this user may read."""
    folder = Path(tempfile.gettempdir()) / f"t2i-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
