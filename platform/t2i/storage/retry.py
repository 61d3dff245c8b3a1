"""Retry operations on a store that is busy or unreachable, and fail at once if a retry cannot help.

Four layers protect a run from a busy store:

1. The AWS library inside s3fs tries each request ``library_attempts`` times within seconds (:mod:`t2i.storage.s3`), so
   that one busy answer does not cost the whole upload of a large file. The retries of s3fs itself are off: they would
   multiply with these.
2. :func:`with_retries` around each of our operations, and around each that Ray makes (:mod:`t2i.storage.arrow`), adds
   what the library lacks: it waits for minutes instead of seconds, starts a new upload if the server has forgotten the
   old one, retries reads that returned too few bytes, and logs. The library's retry budget is shared by all parallel
   requests of a client, so many at once can use it up in seconds.
3. Every operation that is retried is idempotent: reads, lists, deletions, and uploads that replace a whole object.
4. Manifests with hashes (:mod:`models.manifest`) detect any damage that remains.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
from botocore import exceptions as botocore_errors
from botocore.parsers import ResponseParserError
from urllib3.exceptions import IncompleteRead

from t2i.logs import get_logger
from t2i.storage.errors import answer_of, as_os_error, causes

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """How long to retry (``seconds``), and the waits in between, in seconds.

    The n-th wait is ``first_wait * 2**n``, at most ``longest_wait``, shortened by up to a half at random.
    ``library_attempts`` is the number of attempts that the AWS library makes for one request, with up to 15 s of waits.
    """

    seconds: float = 180.0
    first_wait: float = 0.5
    longest_wait: float = 15.0
    library_attempts: int = 5


RETRY_POLICY = RetryPolicy()
"""A store may be unreachable for three minutes before a run fails.

The attempt that is under way then is still waited for: up to 15 s if the store refuses, and another 15 s for each
attempt of the AWS library (:data:`t2i.storage.s3.READ_TIMEOUT`) if it accepts requests and never answers."""

TRANSIENT = {
    "BadDigest",  # damaged on the way
    "ConditionalRequestConflict",  # two create a file at once
    "IncompleteBody",
    "NoSuchUpload",  # a restarted store forgets unfinished uploads: a retry starts a new one
    "OperationAborted",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "XAmzContentSHA256Mismatch",
}
"""Error codes of S3 after which a retry may succeed; HTTP status 408, 429 and from 500 on count, too, except 501."""

CONNECTION_ERRORS = (
    ConnectionError,
    TimeoutError,
    IncompleteRead,
    ResponseParserError,  # half of an answer
    aiohttp.ClientConnectionError,
    aiohttp.ClientPayloadError,  # a body shorter than announced
    botocore_errors.ConnectionError,
    botocore_errors.HTTPClientError,
)
CERTIFICATE_ERRORS = (aiohttp.ClientSSLError, botocore_errors.SSLError)
"""Those of the connection errors that come again at each attempt."""


class TruncatedReadError(OSError):
    """Fewer bytes were transferred than the file has."""


def with_retries(operation: Callable[[], T]) -> T:
    """Run an idempotent ``operation`` and return its result, retrying as :data:`RETRY_POLICY` says.

    Raises:
        OSError: the last error, when the time is up; at once if it is not transient (403, 404, a full disk). What a
            store answered is in its text; FileNotFoundError and PermissionError stay what they are.
    """
    # A wait that would end after the deadline is not begun: the caller gets the error early rather than late. Only
    # the first failure is logged, since a store that is away fails for every file and worker.
    deadline = time.monotonic() + RETRY_POLICY.seconds
    attempt = 0
    while True:
        try:
            return operation()
        except Exception as error:
            failure = as_os_error(error)
            if failure is None or (failure is error and not is_transient(error)):
                raise
            wait = _wait(attempt)
            if not is_transient(error) or time.monotonic() + wait > deadline:
                raise failure from (error.__cause__ if failure is error else error)
            if attempt == 0:
                get_logger("data").warning("%s: retrying for up to %.0f s", failure, RETRY_POLICY.seconds)
        attempt += 1
        time.sleep(wait)


def _wait(attempt: int) -> float:
    """Return the seconds to wait before the next attempt, randomised so that workers do not retry in lockstep."""
    longest = min(RETRY_POLICY.longest_wait, RETRY_POLICY.first_wait * 2.0 ** min(attempt, 30))  # 30: no overflow
    return longest * random.uniform(0.5, 1.0)


def is_transient(error: BaseException) -> bool:
    """Return whether a retry may succeed: by what the store answered, else by the kind of the error or its causes.

    Errors of the local system (a full disk, missing permissions) are neither, and so final.
    """
    answer = answer_of(error)
    if answer is not None:
        return (
            answer.code in TRANSIENT or answer.status in (408, 429) or (answer.status >= 500 and answer.status != 501)
        )
    found = list(causes(error))
    if any(isinstance(each, CERTIFICATE_ERRORS) for each in found):
        return False
    return any(isinstance(each, (TruncatedReadError, *CONNECTION_ERRORS)) for each in found)
