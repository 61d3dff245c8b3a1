"""Exceptions as gRPC statuses: errors that the caller can mend are explained, others are only logged."""

from __future__ import annotations

import uuid

from google.protobuf.any_pb2 import Any
from google.rpc import code_pb2, error_details_pb2
from google.rpc.status_pb2 import Status
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from t2i.logs import get_logger
from t2i.sampling import RequestError

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


def status_of(error: Exception) -> Status:
    """Return the ``google.rpc.Status`` to send for an exception.

    A RequestError becomes INVALID_ARGUMENT with the name of the field. An exception that is not expected is logged with
    its traceback under a random incident id; the client gets the id, and nothing of the exception.
    """
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, RequestError):
        return _bad_request(cause)
    for kinds, code, message in _EXPECTED:
        if isinstance(cause, kinds):
            return Status(code=code, message=message)
    incident = uuid.uuid4().hex[:12]
    logger.error("incident %s", incident, exc_info=error)
    return Status(code=code_pb2.INTERNAL, message=f"internal error: the server's log has it as incident {incident}.")


def _bad_request(error: RequestError) -> Status:
    violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=str(error))
    detail = Any()
    detail.Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return Status(code=code_pb2.INVALID_ARGUMENT, message=str(error), details=[detail])
