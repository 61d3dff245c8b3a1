"""Amazon S3 and compatible servers, through s3fs.

Endpoint, region and credentials come from the variables and files that every AWS tool reads (``AWS_ENDPOINT_URL`` for
another server than Amazon's). Workers receive the driver's endpoint and region but never its credentials: each node
needs its own.
"""

from __future__ import annotations

import os
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError
from s3fs import S3FileSystem
from s3fs.core import MAX_UPLOAD_PARTS

from t2i.storage import retry
from t2i.storage.errors import DataError

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 15.0
"""Seconds to wait for a connection, and for each answer to a request that was sent."""

PIECE_BYTES = 16 << 20
PARALLEL_PIECES = 8
"""A large file is uploaded in pieces of 16 MB, eight at the same time, which is what it takes of memory."""

CONNECTIONS = 64
"""The most connections of a process to one store."""

LOOPBACK = ("//127.", "//localhost", "//[::1]")


class S3(S3FileSystem):  # type: ignore[misc]  # s3fs is untyped
    """An S3 file system for a given endpoint and region, with a set number of attempts per request.

    Listings are never kept, since other nodes write as well. Pickling carries the three arguments and nothing else:
    the credentials are those of the process that uses it.
    """

    retries = 1  # botocore's are used instead: s3fs would multiply its own with themselves where a body is read

    def __init__(self, endpoint: str | None, region: str | None, attempts: int, **configured: Any) -> None:
        """``configured`` is what fsspec adds from its own variables and files, such as ``FSSPEC_S3_ANON``."""
        config: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": READ_TIMEOUT,
            "retries": {"mode": "standard", "total_max_attempts": attempts},
            "max_pool_connections": CONNECTIONS,
            # Servers other than Amazon's refuse the newer checksums. What is sent is covered by the signature or by
            # TLS, what is read by our manifests.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        if any(name in (endpoint or "") for name in LOOPBACK):
            config["proxies"] = {}  # HTTP_PROXY is for other machines
        options = {
            "endpoint_url": endpoint,
            "client_kwargs": {"region_name": region} if region else {},
            "config_kwargs": config,
            "max_concurrency": 1,  # of reads: each would ask for the size first, and ours are in pieces already
            "use_listings_cache": False,
        }
        super().__init__(**options | configured)
        self._arguments = (endpoint, region, attempts)

    def __reduce__(self) -> tuple[type[S3], tuple[str | None, str | None, int]]:
        return S3, self._arguments

    async def _put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        size = max(PIECE_BYTES, ceil(Path(lpath).stat().st_size / MAX_UPLOAD_PARTS))
        await super()._put_file(lpath, rpath, chunksize=size, max_concurrency=PARALLEL_PIECES, **options)


def connect() -> S3:
    """Return the file system of the endpoint and region that environment and profile name; the same at each call.

    Raises:
        DataError: the profile cannot be read.
    """
    profile = _profile(os.environ.get("AWS_PROFILE"), os.environ.get("AWS_CONFIG_FILE"))
    endpoint = _variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") or profile.get("endpoint_url")
    region = _variable("AWS_REGION", "AWS_DEFAULT_REGION") or profile.get("region")
    return S3(endpoint, region, retry.RETRY_POLICY.library_attempts)


def _variable(*names: str) -> str | None:
    """Return the first of these environment variables that is set and not empty."""
    return next(filter(None, map(os.environ.get, names)), None)


@cache
def _profile(name: str | None, file: str | None) -> dict[str, Any]:  # noqa: ARG001  botocore reads these variables
    """Return the settings of the profile that ``AWS_PROFILE`` names in the file ``AWS_CONFIG_FILE``."""
    try:
        profile: dict[str, Any] = botocore.session.get_session().get_scoped_config()
    except BotoCoreError as error:
        raise DataError(f"AWS_PROFILE is {name!r}: it cannot be used ({' '.join(str(error).split())}).") from error
    return profile
