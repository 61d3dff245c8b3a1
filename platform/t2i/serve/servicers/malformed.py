"""Messages that are no protobuf: refused in one sentence, where gRPC would send Python's exception and their bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from t2i.serve.servicers.errors import bad_request

_MALFORMED = object()
"""Stands in the place of a message that could not be read."""


class RefuseMalformed(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc.aio's classes are untyped
    """Ends calls whose message is not valid, such as one with a string that is not UTF-8, with INVALID_ARGUMENT."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Return the handler of a call, which then answers malformed messages itself."""
        handler: Any = await continuation(details)
        if handler is None or handler.request_streaming or handler.request_deserializer is None:
            return handler
        make = grpc.unary_stream_rpc_method_handler if handler.response_streaming else _unary
        behaviour = _streamed(handler.unary_stream) if handler.response_streaming else _answered(handler.unary_unary)
        return make(behaviour, _parse(handler.request_deserializer), handler.response_serializer)


_unary = grpc.unary_unary_rpc_method_handler


def _parse(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parse(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _MALFORMED

    return parse


def _answered(behaviour: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if request is _MALFORMED:
            await _refuse(context)
        return await behaviour(request, context)

    return answer


def _streamed(behaviour: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        if request is _MALFORMED:
            await _refuse(context)
        async for response in behaviour(request, context):
            yield response

    return stream


async def _refuse(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    status = rpc_status.to_status(
        bad_request("message", "message is not valid: send the fields of t2i.v1, with strings in UTF-8.")
    )
    await context.abort(status.code, status.details, status.trailing_metadata)
