"""Find the files that a path, folder or glob names."""

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
ATTEMPT_PREFIX = "attempt-"
"""Prefix of the folders that :mod:`t2i.data.part_files` writes part files into."""


def list_files(uri: str, suffix: str) -> tuple[pafs.FileSystem, list[str]]:
    """Return the file system and the sorted paths of the files that ``uri`` names.

    ``uri`` is a file, which is returned whatever its suffix; or a folder (searched recursively) or glob, of which
    the files that end in ``suffix`` are returned, hidden ones (``.*``, ``_*``) excepted. In a set that
    :func:`t2i.data.part_files.write_parts` has written, only the part files in its manifest count.

    Raises:
        DataError: there is no such file or folder, no file with that suffix, or the set is not complete.
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
    if any(file.startswith(f"{base}/{ATTEMPT_PREFIX}") for file in files):
        files = sorted(_named_parts(filesystem, base) & set(files))
    return filesystem, files


def _named_parts(filesystem: pafs.FileSystem, folder: str) -> set[str]:
    """Return the paths of the part files that the manifest lists; a killed writer may have left others beside them.

    Raises:
        DataError: there is no manifest, so the set is not complete.
    """
    manifest = f"{folder}/{MANIFEST}"
    if not file_info(filesystem, manifest).is_file:
        raise DataError(f"path is {folder!r}: it is not complete, so run the job that writes it to its end.")
    return {f"{folder}/{name}" for name in json.loads(read_path(filesystem, manifest))["files"]}


def _above_wildcards(path: str) -> str:
    """Return the folder above the first path segment with a wildcard; ``path`` itself if there is no wildcard."""
    segments = path.split("/")
    fixed = next((i for i, segment in enumerate(segments) if set(segment) & set(WILDCARDS)), len(segments))
    return "/".join(segments[:fixed]) or "/"


def _wanted(file: str, path: str, suffix: str) -> bool:
    """Return whether ``file`` has the suffix, is not hidden, and is in the folder or matches the glob ``path``."""
    if not file.endswith(suffix) or PurePosixPath(file).name.startswith((".", "_")):
        return False
    return _above_wildcards(path) == path or PurePosixPath("/", file).match(f"/{path.lstrip('/')}")
