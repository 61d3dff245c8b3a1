"""Asking a store again that does not answer for a while, and giving up at once where asking again cannot help.

Four things stand between a busy store and a lost run:

1. the AWS library inside pyarrow tries each request ``library_attempts`` times (:mod:`t2i.storage.s3`). That covers
   what Ray does with our file systems, too; Ray Data moreover repeats whole reads
   (``DataContext.retried_io_errors``);
2. :func:`with_retries` around each operation of ours adds what the library lacks: minutes instead of seconds, a new
   upload where the old one's id is gone, a second look at what came back too short, and a word in the log. The
   library's allowance of retries is shared by a client's parallel requests, so many at once can spend it in seconds;
3. what is repeated is idempotent: reads, lists, deletions, and uploads that replace a whole object;
4. manifests with hashes (:mod:`models.manifest`) catch whatever still got through.
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
    """How long and how often to ask; the waits double from ``first_wait``, each shortened by up to a half at random."""

    seconds: float = 180.0
    first_wait: float = 0.5
    longest_wait: float = 15.0
    library_attempts: int = 5


RETRY_POLICY = RetryPolicy()
"""A store may be gone for three minutes (plus the library's last ten seconds) before a run gives up on it."""

TRANSIENT = {
    "INTERNAL_FAILURE",
    "NETWORK_CONNECTION",  # refused, reset, timed out, or an answer that ended before its length
    "NO_SUCH_UPLOAD",  # a restarted store forgets uploads that had begun: begin again
    "REQUEST_TIMEOUT",
    "SERVICE_UNAVAILABLE",
    "SLOW_DOWN",
    "THROTTLING",
}
_AWS_ERROR = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))?")


class TruncatedRead(OSError):
    """Fewer bytes came through than there are."""


def with_retries(operation: Callable[[], T]) -> T:
    """Do an idempotent ``operation``, again and again while it fails in a way that may pass.

    Raises:
        OSError: what it raised last, after :data:`RETRY_POLICY`; at once what will not pass (403, 404, a full disk).
    """
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
                get_logger("data").warning("%s: asking again for up to %.0f s", error, RETRY_POLICY.seconds)
        attempt += 1
        time.sleep(wait)


def _wait(attempt: int) -> float:
    """Seconds before the next attempt; random, so that workers that failed together do not come back together."""
    longest = min(RETRY_POLICY.longest_wait, RETRY_POLICY.first_wait * 2.0 ** min(attempt, 30))
    return longest * random.uniform(0.5, 1.0)


def is_transient(error: OSError) -> bool:
    """Whether asking again may help. Errors of the local system, such as a full disk, never are."""
    if isinstance(error, TruncatedRead):
        return True
    found = _AWS_ERROR.search(str(error))
    if error.errno is not None or found is None:
        return False
    name, status = found.groups()
    return name in TRANSIENT or int(status or 0) >= 500 or status in ("408", "429")
