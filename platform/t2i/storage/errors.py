"""The error that reading and writing data raises, and what a store has answered, as errors of Python's own kinds."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from models.errors import UserError

CREDENTIALS = "check the credentials in the AWS_* variables, and what they may do"


class DataError(UserError):
    """Data that cannot be read or written; the message is one sentence that names the setting and the remedy."""


@contextmanager
def as_data_error(uri: str | Path) -> Iterator[None]:
    """Convert any OSError of the block into a :class:`DataError` that names ``uri``."""
    try:
        yield
    except OSError as error:
        reason = re.sub(r"^\[Errno \d+\] ", "", str(error).splitlines()[0]).rstrip(".")
        raise DataError(f"path is {str(uri)!r}: it cannot be used ({reason}).") from error


@dataclass(frozen=True)
class Answer:
    """What a store answered to a request that it did not grant: HTTP status, error code (such as SlowDown), message."""

    status: int
    code: str
    message: str

    def __str__(self) -> str:
        """Return one phrase; the answer to a HEAD has no code but its status."""
        said = self.message.strip().splitlines()[0].rstrip(".") if self.message.strip() else ""
        code = f"HTTP {self.status}" if self.code in ("", str(self.status)) else self.code
        remedy = CREDENTIALS if self.status in (401, 403) else ""
        return "; ".join(filter(None, (f"{code}: {said}" if said else code, remedy)))


def answer_of(error: BaseException) -> Answer | None:
    """Return the answer that ``error``, or an error that it was raised from, reports; None if a store gave none."""
    for each in causes(error):
        if isinstance(each, ClientError):
            said = each.response.get("Error", {})
            status = each.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return Answer(status, said.get("Code", ""), said.get("Message", ""))
        if isinstance(each, aiohttp.ClientPayloadError):
            return None  # an answer that broke off; what it was raised from has a code that no server sent
        # aiohttp (https://), gcsfs, adlfs and huggingface_hub, in this order
        response = getattr(each, "response", None)
        for holder, name in ((each, "status"), (each, "code"), (each, "status_code"), (response, "status_code")):
            status = getattr(holder, name, None)
            if isinstance(status, int) and 400 <= status < 600:
                return Answer(status, "", str(getattr(each, "message", "")))
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, the one that it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def as_os_error(error: Exception) -> OSError | None:
    """Return what a file system raised as an OSError whose text says what happened; None if it is of another kind.

    s3fs raises OSErrors that leave out the code of S3, and passes on errors of botocore and aiohttp, which are none.
    """
    answer = answer_of(error)
    if answer is not None:
        return _kind(error, answer.status)(str(answer))
    if isinstance(error, FileNotFoundError) and error.errno is None:
        return FileNotFoundError(errno.ENOENT, "there is no such file", str(error))
    if isinstance(error, FileExistsError) and error.errno is None:
        return FileExistsError(errno.EEXIST, "there is such a file", str(error))
    if isinstance(error, OSError) and str(error):
        return error
    if isinstance(error, OSError | BotoCoreError | aiohttp.ClientError | asyncio.TimeoutError):
        # Of an address that could not be reached the query is left out: it may hold a signature.
        return OSError(re.sub(r"\?[^\s\"]*", "", " ".join(str(error).split())) or "the store took too long to answer")
    return None


def _kind(error: Exception, status: int) -> type[OSError]:
    if isinstance(error, PermissionError) or status in (401, 403):
        return PermissionError
    return {404: FileNotFoundError, 412: FileExistsError}.get(status, OSError)  # 412: to be created, and is there
