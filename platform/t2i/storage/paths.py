"""Resolve a path or URI to a file system and the path inside it.

S3 takes its endpoint, region and credentials from the standard ``AWS_*`` environment variables
(``AWS_ENDPOINT_URL`` for another server than Amazon's). Workers receive the driver's endpoint but never its
credentials: each node needs its own.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.fs as pafs

from t2i.storage.errors import DataError, as_data_error
from t2i.storage.s3 import connect


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
    with as_data_error(uri):
        return connect(bucket), rest.rstrip("/")


def absolute(uri: str | Path) -> str:
    """Return ``uri`` as an absolute path, or unchanged if it has a scheme: the same file on every worker."""
    return str(uri) if "://" in str(uri) else filesystem_for(uri)[1]
