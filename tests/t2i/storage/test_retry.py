"""Which errors of which file system are worth a retry, and what they say."""

from __future__ import annotations

import errno
import os

import aiohttp
import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    SSLError,
)
from fsspec.exceptions import FSTimeoutError
from s3fs.errors import translate_boto_error
from yarl import URL

from t2i.storage import is_transient, retry, with_retries
from t2i.storage.retry import TruncatedReadError


def s3(code: str, status: int, message: str = "as it said.") -> OSError:
    """What s3fs makes of an answer."""
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate_boto_error(ClientError(answer, "GetObject"))


def web(status: int) -> FileNotFoundError:
    """What fsspec makes of any error of a web server."""
    request = aiohttp.RequestInfo(URL("http://h/a"), "GET", {}, URL("http://h/a"))  # type: ignore[arg-type]
    error = FileNotFoundError("http://h/a")
    error.__cause__ = aiohttp.ClientResponseError(request, (), status=status, message="so")
    return error


class GoogleError(Exception):
    """Like gcsfs.retry.HttpError."""

    def __init__(self, code: int) -> None:
        self.code, self.message = code, "so"


TRANSIENT = [
    s3("SlowDown", 503),
    s3("InternalError", 500),
    s3("500", 500),
    s3("TooManyRequests", 429),
    s3("RequestTimeout", 400),
    s3("IncompleteBody", 400),
    s3("NoSuchUpload", 404),
    s3("ConditionalRequestConflict", 409),
    EndpointConnectionError(endpoint_url="http://h", error="refused"),
    ReadTimeoutError(endpoint_url="http://h", error="late"),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ClientPayloadError("half"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    FSTimeoutError(),
    TruncatedReadError("short"),
    web(503),
    GoogleError(503),
]
FINAL = [
    s3("AccessDenied", 403),
    s3("SignatureDoesNotMatch", 403),
    s3("NoSuchKey", 404),
    s3("NoSuchBucket", 404),
    s3("404", 404),
    s3("ExpiredToken", 400),
    s3("NotImplemented", 501),
    s3("PreconditionFailed", 412),
    NoCredentialsError(),
    SSLError(endpoint_url="https://h", error="self-signed"),
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
    FileNotFoundError("bucket/a"),
    web(403),
    web(404),
    GoogleError(403),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_what_may_pass_is_tried_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempts(error, monkeypatch) > 1
    assert is_transient(error)


@pytest.mark.parametrize("error", FINAL, ids=repr)
def test_what_cannot_pass_is_tried_once(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempts(error, monkeypatch) == 1
    assert not is_transient(error)


def attempts(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how often an operation is tried that always fails by ``error``; callers see an OSError of one line."""
    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(0.02, 0.001, 0.001))
    count = 0

    def fail() -> None:
        nonlocal count
        count += 1
        raise error

    with pytest.raises(OSError, match=r"^[^\n]+$") as raised:
        with_retries(fail)
    assert is_transient(raised.value) == is_transient(error), "callers ask as well"
    return count


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (s3("NoSuchKey", 404, "The key does not exist."), FileNotFoundError, "NoSuchKey: The key does not exist"),
        (s3("404", 404, "Not Found"), FileNotFoundError, "HTTP 404: Not Found"),
        (
            s3("AccessDenied", 403, "No."),
            PermissionError,
            "AccessDenied: No; check the credentials in the AWS_* variables",
        ),
        (s3("Odd", 418, ""), OSError, "Odd"),
        (FileNotFoundError("bucket/a"), FileNotFoundError, "there is no such file: 'bucket/a'"),
        (s3("PreconditionFailed", 412, "It is there."), FileExistsError, "PreconditionFailed: It is there"),
        (FileExistsError(), FileExistsError, "there is such a file"),
        (ParamValidationError(report="Invalid\nbucket"), OSError, "Parameter validation failed: Invalid bucket"),
        (FSTimeoutError(), OSError, "the store took too long to answer"),
        (web(403), PermissionError, "HTTP 403: so"),
        (web(404), FileNotFoundError, "HTTP 404: so"),
    ],
)
def test_errors_keep_their_kind_and_say_what_was_answered(
    error: Exception, kind: type[OSError], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(0, 0.01, 0.01))

    def fail() -> None:
        raise error

    with pytest.raises(kind) as raised:
        with_retries(fail)
    assert text in str(raised.value)


def test_a_bug_is_not_taken_for_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(0, 0.01, 0.01))
    with pytest.raises(ZeroDivisionError):
        with_retries(lambda: 1 // 0)
