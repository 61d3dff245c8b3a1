"""The client for code that waits for its answers."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
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


class Client:
    """A connection to one service; close it, or use it in a ``with`` block.

    Stubs of other services take its ``channel`` and, with each call, its ``metadata``, in a block of
    :meth:`translated_errors`.

    Raises:
        UserError: the address or an option cannot be used.
    """

    def __init__(self, address: str = "127.0.0.1:50051", **options: Unpack[ConnectionOptions]) -> None:
        self.address = address
        self._connection = Connection(address, **options)
        self.metadata = self._connection.metadata
        self.channel = self._connection.open(grpc)
        self._generation = GenerationStub(self.channel)
        self._health = health_pb2_grpc.HealthStub(self.channel)

    def generate(self, caption: str, *, timeout: float = 600.0, **options: Unpack[GenerationOptions]) -> Answer:
        """Return the best images for a caption; a lost or busy service is asked again for ``timeout`` seconds.

        Raises:
            InvalidRequestError: a field is invalid.
            UnauthenticatedError: the service does not know the key.
            ServiceBusyError: what waits there, or the key's quota, would make the request late.
            ServiceUnreachableError: nothing listens at the address.
            ServiceError: anything else, such as a deadline that passed.
        """
        request, retries = request_of(caption, options), Retries(timeout)
        while True:
            try:
                return self._answer(request, retries.seconds_left)
            except ServiceError as error:
                time.sleep(retries.pause(error, self._connection.has_answered))

    def generate_stream(
        self, caption: str, *, timeout: float = 600.0, **options: Unpack[GenerationOptions]
    ) -> Generator[Event]:
        """Yield the progress of :meth:`generate` and previews, then the images, best first, then the summary.

        Closing the generator early stops the work on the server. Raises the same errors as :meth:`generate`.
        """
        request, retries, furthest = request_of(caption, options), Retries(timeout), Furthest()
        while True:
            try:
                for event in self._events(request, retries.seconds_left):
                    if furthest.is_new(event):
                        yield event
                return
            except ServiceError as error:
                time.sleep(retries.pause(error, self._connection.has_answered))

    def is_serving(self, service: str = "", timeout: float = 10.0) -> bool:
        """Return whether a service such as ``t2i.v1.Prior`` is ready; the empty name asks for all of them.

        Raises:
            ServiceUnreachableError: nothing listens at the address.
        """
        with self.translated_errors():
            answer = self._health.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def close(self) -> None:
        """Close the connection; running calls are cancelled."""
        self.channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, request: GenerateRequest, timeout: float) -> Answer:
        with self.translated_errors():
            return answer_of(self._generation.Generate(request, timeout=timeout, metadata=self.metadata))

    def _events(self, request: GenerateRequest, timeout: float) -> Generator[Event]:
        call = self._generation.GenerateStream(request, timeout=timeout, metadata=self.metadata)
        try:
            with self.translated_errors():
                for event in call:
                    self._connection.has_answered = True
                    yield event_of(event)
        finally:
            call.cancel()

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Raise gRPC errors of the block as ServiceError, and note that the service has answered if there are none."""
        try:
            yield
        except grpc.RpcError as error:
            raise self._connection.error(error) from error
        self._connection.has_answered = True
