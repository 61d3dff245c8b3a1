"""Amazon S3 and what speaks like it, through pyarrow."""

from __future__ import annotations

from typing import Any

import pyarrow.fs as pafs

from t2i.storage import retry
from t2i.storage.retry import with_retries


class RetryingS3(pafs.S3FileSystem):
    """S3 that tries each request several times, and still does after it was pickled to a worker.

    ``FileSystem.from_uri`` cannot be told how often to try, and pyarrow's own pickling forgets it: both fall back to
    three attempts within two seconds.
    """

    def __init__(self, options: dict[str, Any], attempts: int) -> None:
        super().__init__(**options, retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=attempts))
        self._made_of = (options, attempts)

    def __reduce__(self) -> tuple[type[RetryingS3], tuple[dict[str, Any], int]]:
        return RetryingS3, self._made_of


def connect(bucket: str) -> RetryingS3:
    """The file system of ``bucket``, with the endpoint, region and credentials that ``from_uri`` finds.

    Raises:
        OSError: the bucket's region cannot be found out.
    """
    found = with_retries(lambda: pafs.FileSystem.from_uri(f"s3://{bucket}")[0])
    return RetryingS3(found.__reduce__()[1][0], retry.RETRY_POLICY.library_attempts)
