"""Exceptions as gRPC statuses: errors that the caller can mend are explained, others are only logged."""

from __future__ import annotations

import math

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2
from google.rpc.status_pb2 import Status
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from t2i.logs import get_logger
from t2i.sampling import RequestError
from t2i.serve.access.keys import ForbiddenError, UnauthenticatedError
from t2i.serve.access.quota import QuotaExceededError
from t2i.serve.messages import NotChangeableError, QueueFullError

logger = get_logger("serve.gateway")

_EXPECTED = (
    (BackPressureError, code_pb2.RESOURCE_EXHAUSTED, "too many requests are waiting: try again later."),
    (
        TimeoutError,
        code_pb2.DEADLINE_EXCEEDED,
        "the time for this request is over: ask for fewer candidates or allow more.",
    ),
    (
        (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError),
        code_pb2.UNAVAILABLE,
        "a replica was lost and did not come back in time: try again.",
    ),
)
"""Exceptions of normal operation, each with its gRPC code and what to tell the client."""


LONGEST_PAUSE_S = 15
"""Seconds after which a client is told to ask again, at most. How long a queue takes is reckoned from the last steps:
after a machine has stood still, clients would go on waiting for minutes beside an engine without work."""


def status_of(error: Exception, request_id: str) -> Status:
    """Return the ``google.rpc.Status`` to send for an exception.

    A RequestError becomes INVALID_ARGUMENT with the name of the field; a full queue, and a quota that is used up,
    RESOURCE_EXHAUSTED with the time after which to ask again; a key that is not known UNAUTHENTICATED. An exception
    that is not expected is logged with its traceback under the id of the request; the client gets the id, and nothing
    of the exception.
    """
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, RequestError):
        return bad_request(cause.field, str(cause))
    if isinstance(cause, QueueFullError):
        return _queue_full(cause)
    if isinstance(cause, QuotaExceededError):
        return _busy(str(cause), cause.retry_after_s)
    if isinstance(cause, UnauthenticatedError):
        return _status(code_pb2.UNAUTHENTICATED, str(cause))
    if isinstance(cause, ForbiddenError):
        return _status(code_pb2.PERMISSION_DENIED, str(cause))
    if isinstance(cause, NotChangeableError):
        return _status(code_pb2.FAILED_PRECONDITION, str(cause))
    for kinds, code, message in _EXPECTED:
        if isinstance(cause, kinds):
            return _status(code, message)
    logger.error("request %s failed", request_id, exc_info=error, extra={"request_id": request_id})
    return _status(code_pb2.INTERNAL, f"internal error: the server's log has it under request {request_id}.")


def bad_request(field: str, message: str) -> Status:
    """Return the status INVALID_ARGUMENT, with a detail that names the field."""
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
    return _status(code_pb2.INVALID_ARGUMENT, message, error_details_pb2.BadRequest(field_violations=[violation]))


def _queue_full(error: QueueFullError) -> Status:
    seconds = min(max(1, math.ceil(error.late_s)), LONGEST_PAUSE_S)
    message = f"too many requests are waiting: try again in {seconds} s, ask for fewer candidates or allow more time."
    return _busy(message, seconds)


def _busy(message: str, seconds: float) -> Status:
    """Return RESOURCE_EXHAUSTED with the time after which to ask again, in whole milliseconds."""
    delay = Duration()
    delay.FromMilliseconds(math.ceil(seconds * 1000))
    return _status(code_pb2.RESOURCE_EXHAUSTED, message, error_details_pb2.RetryInfo(retry_delay=delay))


def _status(code: int, message: str, *details: Message) -> Status:
    packed = [Any() for _ in details]
    for target, detail in zip(packed, details, strict=True):
        target.Pack(detail)
    return Status(code=code, message=message, details=packed)
