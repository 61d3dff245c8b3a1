"""Find the files that a path, folder or glob names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from fsspec import AbstractFileSystem
from fsspec.utils import glob_translate

from models.manifest import MANIFEST
from t2i.storage.errors import DataError, as_data_error
from t2i.storage.files import all_files, file_info, is_http, read_path
from t2i.storage.paths import WILDCARDS, filesystem_for

ATTEMPT_PREFIX = "attempt-"
"""Prefix of the folders that :mod:`t2i.data.part_files` writes part files into."""


def list_files(uri: str, suffix: str) -> tuple[AbstractFileSystem, list[str]]:
    """Return the file system and the sorted paths of the files that ``uri`` names.

    ``uri`` is a file, which is returned whatever its suffix; or a folder (searched recursively) or glob, of which
    the files that end in ``suffix`` (in capitals, too) are returned, hidden ones (``.*``, ``_*``) excepted. What is
    there by exactly the name of ``uri`` is preferred to a glob. In a glob ``*``, ``?`` and ``[...]`` stay within a
    folder, and ``**`` spans folders. In a set that :func:`t2i.data.part_files.write_parts` has written, only the part
    files in its manifest count.

    Raises:
        DataError: there is no such file or folder, no file with that suffix, or the set is not complete.
    """
    filesystem, path = filesystem_for(uri)
    with as_data_error(uri):
        base, glob = _split_glob(filesystem, path)
        entry = file_info(filesystem, base)
        if not entry.exists:
            raise DataError(f"path is {uri!r}: there is no such file or folder.")
        if entry.is_file:
            return filesystem, [base]
        found = all_files(filesystem, base)
    matches = _matcher(uri, base, glob)
    files = sorted(file for file in found if _wanted(file, suffix) and matches(file))
    if not files:
        raise DataError(f"path is {uri!r}: it holds nothing that ends in {suffix or 'a known suffix'}.")
    if any(file.startswith(f"{base}/{ATTEMPT_PREFIX}") for file in files):
        files = sorted(_named_parts(filesystem, base) & set(files))
    return filesystem, files


def _named_parts(filesystem: AbstractFileSystem, folder: str) -> set[str]:
    """Return the paths of the part files that the manifest lists; a killed writer may have left others beside them.

    Raises:
        DataError: there is no manifest, so the set is not complete.
    """
    manifest = f"{folder}/{MANIFEST}"
    if not file_info(filesystem, manifest).is_file:
        raise DataError(f"path is {folder!r}: it is not complete, so run the job that writes it to its end.")
    return {f"{folder}/{name}" for name in json.loads(read_path(filesystem, manifest))["files"]}


def _split_glob(filesystem: AbstractFileSystem, path: str) -> tuple[str, str]:
    """Return a path without wildcards and the glob below it, which is empty if ``path`` itself is there.

    Segments that are there by exactly their name are no wildcards: ``set [v2]/*.tar`` is ``*.tar`` in ``set [v2]``.
    """
    wildcards = set("*[" if is_http(filesystem) else WILDCARDS)  # ? begins the query of an address
    if not set(path) & wildcards or file_info(filesystem, path).exists:
        return path, ""
    segments = path.split("/")
    for i, segment in enumerate(segments):
        if set(segment) & wildcards and not file_info(filesystem, "/".join(segments[: i + 1])).exists:
            base = "/".join(segments[:i])
            return f"{base}/" if is_http(filesystem) or not base else base, "/".join(segments[i:])
    return path, ""


def _matcher(uri: str, base: str, glob: str) -> Callable[[str], bool]:
    """Return a function that tells whether a file below ``base`` matches ``glob``; all do if it is empty."""
    try:
        pattern = re.compile(glob_translate(glob or "**"))
    except ValueError as error:
        raise DataError(f"path is {uri!r}: write ** alone between slashes, or * within a name.") from error
    above = base if base.endswith("/") else f"{base}/"
    return lambda file: pattern.match(file.removeprefix(above)) is not None


def _wanted(file: str, suffix: str) -> bool:
    """Return whether the name has the suffix and is not hidden; a name that ends in / stands for an empty folder."""
    name = file.rpartition("/")[2]
    return name.lower().endswith(suffix) and not name.startswith((".", "_")) and name != ""
