"""The client for code in an event loop: as :class:`t2i.client.Client`, with the same options, answers and errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from types import TracebackType
from typing import Unpack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from t2i.client.answers import Answer, Event
from t2i.client.connection import Connection, ConnectionOptions
from t2i.client.errors import ServiceError
from t2i.client.messages import GenerationOptions, answer_of, event_of, request_of
from t2i.client.retries import Furthest, Retries
from t2i.protos.v1.generation_pb2 import GenerateRequest
from t2i.protos.v1.generation_pb2_grpc import GenerationStub


class AsyncClient:
    """A connection to one service, made in the event loop that uses it; close it, or use it in an ``async with``."""

    def __init__(self, address: str = "127.0.0.1:50051", **options: Unpack[ConnectionOptions]) -> None:
        self.address = address
        self._connection = Connection(address, **options)
        self._channel = self._connection.open(grpc.aio)
        self._generation = GenerationStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def generate(self, caption: str, *, timeout: float = 600.0, **options: Unpack[GenerationOptions]) -> Answer:
        """Return the best images for a caption, as :meth:`Client.generate`; to cancel the task stops the work."""
        request, retries = request_of(caption, options), Retries(timeout)
        while True:
            try:
                return await self._answer(request, retries.seconds_left)
            except ServiceError as error:
                await asyncio.sleep(retries.pause(error, self._connection.has_answered))

    async def generate_stream(
        self,
        caption: str,
        *,
        timeout: float = 600.0,
        **options: Unpack[GenerationOptions],
    ) -> AsyncGenerator[Event]:
        """Yield what :meth:`Client.generate_stream` yields; ``aclose`` or a cancelled task stops the work."""
        request, retries, furthest = request_of(caption, options), Retries(timeout), Furthest()
        while True:
            try:
                async with aclosing(self._events(request, retries.seconds_left)) as events:
                    async for event in events:
                        if furthest.is_new(event):
                            yield event
                return
            except ServiceError as error:
                await asyncio.sleep(retries.pause(error, self._connection.has_answered))

    async def is_serving(self, service: str = "", timeout: float = 10.0) -> bool:
        """Return whether a service is ready, as :meth:`Client.is_serving`."""
        with self._translated_errors():
            answer = await self._health.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """Close the connection; running calls are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _answer(self, request: GenerateRequest, timeout: float) -> Answer:
        with self._translated_errors():
            call = self._generation.Generate(request, timeout=timeout, metadata=self._connection.metadata)
            return answer_of(await call)

    async def _events(self, request: GenerateRequest, timeout: float) -> AsyncGenerator[Event]:
        call = self._generation.GenerateStream(request, timeout=timeout, metadata=self._connection.metadata)
        try:
            with self._translated_errors():
                async for event in call:
                    self._connection.has_answered = True
                    yield event_of(event)
        finally:
            call.cancel()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise gRPC errors of the block as ServiceError, and note that the service has answered if there are none."""
        try:
            yield
        except grpc.RpcError as error:
            raise self._connection.error(error) from error
        self._connection.has_answered = True
