"""Retry operations on a store that is busy or unreachable, and fail at once if a retry cannot help.

Four layers protect a run from a busy store:

1. The AWS library inside pyarrow tries each request ``library_attempts`` times (:mod:`t2i.storage.s3`). This also
   covers Ray's use of our file systems; Ray Data in addition retries whole reads
   (``DataContext.retried_io_errors``).
2. :func:`with_retries` around each of our operations adds what the library lacks: it waits for minutes instead of
   seconds, starts a new upload if the server has forgotten the old one, retries reads that returned too few bytes,
   and logs. The library's retry budget is shared by all parallel requests of a client, so many at once can use it up
   in seconds.
3. Every operation that is retried is idempotent: reads, lists, deletions, and uploads that replace a whole object.
4. Manifests with hashes (:mod:`models.manifest`) detect any damage that remains.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from t2i.logs import get_logger

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """How long to retry (``seconds``), and the waits in between, in seconds.

    The n-th wait is ``first_wait * 2**n``, at most ``longest_wait``, shortened by up to a half at random.
    ``library_attempts`` is the number of attempts that the AWS library makes for one request.
    """

    seconds: float = 180.0
    first_wait: float = 0.5
    longest_wait: float = 15.0
    library_attempts: int = 5


RETRY_POLICY = RetryPolicy()
"""A store may be unreachable for three minutes (plus up to ten seconds of the AWS library) before a run fails."""

TRANSIENT = {
    "INTERNAL_FAILURE",
    "NETWORK_CONNECTION",  # refused, reset, timed out, or an answer shorter than announced
    "NO_SUCH_UPLOAD",  # a restarted store forgets unfinished uploads: a retry starts a new one
    "REQUEST_TIMEOUT",
    "SERVICE_UNAVAILABLE",
    "SLOW_DOWN",
    "THROTTLING",
}
"""AWS error codes after which a retry may succeed; HTTP status 408, 429 and from 500 on count, too."""
_AWS_ERROR = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))?")


class TruncatedReadError(OSError):
    """Fewer bytes were transferred than the file has."""


def with_retries(operation: Callable[[], T]) -> T:
    """Run an idempotent ``operation`` and return its result, retrying as :data:`RETRY_POLICY` says.

    Raises:
        OSError: the last error, when the time is up; at once if it is not transient (403, 404, a full disk).
    """
    # A wait that would end after the deadline is not begun: the caller gets the error early rather than late. Only
    # the first failure is logged, since a store that is away fails for every file and worker.
    deadline = time.monotonic() + RETRY_POLICY.seconds
    attempt = 0
    while True:
        try:
            return operation()
        except OSError as error:
            wait = _wait(attempt)
            if not is_transient(error) or time.monotonic() + wait > deadline:
                raise
            if attempt == 0:
                get_logger("data").warning("%s: retrying for up to %.0f s", error, RETRY_POLICY.seconds)
        attempt += 1
        time.sleep(wait)


def _wait(attempt: int) -> float:
    """Return the seconds to wait before the next attempt, randomised so that workers do not retry in lockstep."""
    longest = min(RETRY_POLICY.longest_wait, RETRY_POLICY.first_wait * 2.0 ** min(attempt, 30))  # 30: no overflow
    return longest * random.uniform(0.5, 1.0)


def is_transient(error: OSError) -> bool:
    """Return whether a retry may succeed.

    Errors of the local system (a full disk, missing permissions) never are transient: they have an ``errno``, while
    pyarrow reports those of S3 by a message alone, such as ``AWS Error SLOW_DOWN (HTTP status 503)``.
    """
    if isinstance(error, TruncatedReadError):
        return True
    found = _AWS_ERROR.search(str(error))
    if error.errno is not None or found is None:
        return False
    name, status = found.groups()
    return name in TRANSIENT or int(status or 0) >= 500 or status in ("408", "429")
