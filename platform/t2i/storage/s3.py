"""Amazon S3 and compatible servers, through pyarrow."""

from __future__ import annotations

from typing import Any

import pyarrow.fs as pafs

from t2i.storage import retry
from t2i.storage.retry import with_retries


class RetryingS3(pafs.S3FileSystem):  # type: ignore[misc]  # pyarrow is untyped
    """An S3 file system with a set number of attempts per request, which survives pickling to a worker.

    ``FileSystem.from_uri`` has no option for the number of attempts, and pyarrow's own pickling drops it: both fall
    back to three attempts within two seconds.
    """

    def __init__(self, options: dict[str, Any], attempts: int) -> None:
        super().__init__(**options, retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=attempts))
        self._arguments = (options, attempts)

    def __reduce__(self) -> tuple[type[RetryingS3], tuple[dict[str, Any], int]]:
        return RetryingS3, self._arguments


def connect(bucket: str) -> RetryingS3:
    """Return the file system of ``bucket``, with the endpoint, region and credentials that ``from_uri`` finds.

    Raises:
        OSError: the region of the bucket cannot be determined.
    """
    found = with_retries(lambda: pafs.FileSystem.from_uri(f"s3://{bucket}")[0])
    return RetryingS3(found.__reduce__()[1][0], retry.RETRY_POLICY.library_attempts)
