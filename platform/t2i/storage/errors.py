"""The error that reading and writing data raises, and the conversion of a file system's errors to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import UserError


class DataError(UserError):
    """Data that cannot be read or written; the message is one sentence that names the setting and the remedy."""


@contextmanager
def as_data_error(uri: str | Path) -> Iterator[None]:
    """Convert any OSError of the block into a :class:`DataError` that names ``uri``."""
    try:
        yield
    except OSError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"path is {str(uri)!r}: it cannot be used ({reason}).") from error
