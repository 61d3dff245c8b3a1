"""Writing local files atomically: readers see the old content or the new, never a part."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".part"
"""Suffix of the names of files that are being written."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the directory of ``path``, and rename that file to ``path`` after the block.

    If the block raises, or the process is killed, ``path`` stays as it was. Missing directories are made.
    """
    with _temporary(path) as temporary:
        yield temporary
        temporary.replace(path)


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` to the file ``path`` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_new(path: Path, data: bytes) -> None:
    """Write ``data`` to the file ``path`` atomically, if there is none; of several writers one succeeds.

    Raises:
        FileExistsError: there is one.
    """
    with _temporary(path) as temporary:
        temporary.write_bytes(data)
        os.link(temporary, path)  # a rename would replace it


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield a path in the directory of ``path``, which is made if need be, and delete what is there afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
