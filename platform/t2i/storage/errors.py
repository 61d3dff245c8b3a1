"""The error of everything that reads or writes data, and how a file system's errors become it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import UserError


class DataError(UserError):
    """Data that cannot be read or written as asked; one sentence with the field and the remedy."""


@contextmanager
def as_data_error(uri: str | Path) -> Iterator[None]:
    """Turn what a file system raises into one sentence."""
    try:
        yield
    except OSError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"path is {str(uri)!r}: it cannot be used ({reason}).") from error
