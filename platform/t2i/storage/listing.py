"""The files that a path, folder or glob stands for."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import pyarrow.fs as pafs

from models.manifest import MANIFEST
from t2i.storage.errors import DataError, as_data_error
from t2i.storage.files import file_info, read_path
from t2i.storage.paths import filesystem_for
from t2i.storage.retry import with_retries

WILDCARDS = "*?["
ATTEMPT = "attempt-"
"""Prefix of the folders that :mod:`t2i.data.part_files` writes into."""


def list_files(uri: str, suffix: str) -> tuple[pafs.FileSystem, list[str]]:
    """The files that end in ``suffix`` in a folder (recursively) or glob, or the one file ``uri``; sorted.

    In a folder that :func:`t2i.data.part_files.write_parts` has written, these are the parts its manifest names.

    Raises:
        DataError: nothing is there, nothing with that suffix, or a set whose writer has not finished.
    """
    filesystem, path = filesystem_for(uri)
    base = _above_wildcards(path)
    with as_data_error(uri):
        info = file_info(filesystem, base)
        if info.type == pafs.FileType.NotFound:
            raise DataError(f"path is {uri!r}: there is no such file or folder.")
        if info.type == pafs.FileType.File:
            return filesystem, [base]
        found = with_retries(lambda: filesystem.get_file_info(pafs.FileSelector(base, recursive=True)))
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
