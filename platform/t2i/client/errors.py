"""What can go wrong when a service is asked: exceptions with a one-sentence message, made of gRPC's."""

from __future__ import annotations

import re

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from models.errors import UserError


class ServiceError(UserError):
    """The service answered with an error, or not at all; ``code`` is the gRPC status."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


class ServiceUnreachableError(ServiceError):
    """Nothing listens at the address, or it does not agree on TLS."""


class UnauthenticatedError(ServiceError):
    """The service does not know the key, or got none."""


class ServiceBusyError(ServiceError):
    """The service, or the key's quota, has no room now; ``retry_after_s`` seconds later it may."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.retry_after_s = retry_after_s


class InvalidRequestError(ServiceError):
    """A field of the request is invalid; ``field`` is its name."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message, grpc.StatusCode.INVALID_ARGUMENT)
        self.field = field


def service_error(error: grpc.RpcError, address: str, proxy: str | None) -> ServiceError:
    """Return a gRPC error as an exception of this module; UNAVAILABLE without a ``google.rpc.Status`` is gRPC's own.

    ``proxy`` is the variable that names the proxy on the way, if there is one.
    """
    code, status = error.code(), rpc_status.from_call(error)
    if code == grpc.StatusCode.UNAVAILABLE and status is None:
        return ServiceUnreachableError(_unreachable(address, proxy, error.details() or ""), code)
    for detail in status.details if status else ():
        bad_request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(bad_request):
            return InvalidRequestError(status.message, bad_request.field_violations[0].field)
        if detail.Unpack(retry):
            return ServiceBusyError(status.message, retry.retry_delay.ToTimedelta().total_seconds())
    if code == grpc.StatusCode.UNAUTHENTICATED and status is not None:
        return UnauthenticatedError(status.message, code)
    return ServiceError(f"{address} answered {code.name}: {error.details()}", code)


def _unreachable(address: str, proxy: str | None, details: str) -> str:
    if "handshake failed" in details:
        reason = re.search(r"[A-Z_]{8,}(?:: [a-z ]+)?(?=:|$)", details.rpartition("routines:")[2])
        found = f" ({reason[0]})" if reason else ""
        return f"{address} and this client do not agree on TLS{found}: check the host's name and --ca."
    if proxy:
        return f"nothing answers at {address} through the proxy in {proxy}: add the host to no_proxy if it needs none."
    if re.search("socket closed|reset by peer|certificate", details, re.IGNORECASE):
        return (
            f"{address} hangs up: if it speaks TLS, name its --ca, and a certificate if it asks for one; or ask again."
        )
    return f"nothing answers at {address}: start the service with `t2i serve`, or name another address."
