"""Calls without a known key: refused before anything is read of them, whatever they ask for, health excepted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health
from grpc_status import rpc_status

from t2i.serve.access.access import Access
from t2i.serve.access.keys import UnauthenticatedError
from t2i.serve.servicers.errors import status_of

AUTHORIZATION = "authorization"
"""Key in a call's metadata: ``Bearer KEY``."""


class RequireKey(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc.aio's classes are untyped
    """Ends calls without a key that is known, with UNAUTHENTICATED; also of methods that there are not."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Return the handler of a call, or one that refuses it."""
        if not details.method.startswith(f"/{health.SERVICE_NAME}/"):
            try:
                self._access.key_of(dict(details.invocation_metadata or ()).get(AUTHORIZATION))
            except UnauthenticatedError as error:
                return _refusal(error)
        return await continuation(details)


def _refusal(error: UnauthenticatedError) -> grpc.RpcMethodHandler:
    async def refuse(_: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        status = rpc_status.to_status(status_of(error, ""))
        await context.abort(status.code, status.details, status.trailing_metadata)

    return grpc.stream_stream_rpc_method_handler(refuse)  # takes part in calls of every kind, and waits for no message
