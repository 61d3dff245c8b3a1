"""A client in plain Python: captions in, encoded images out, errors in one sentence."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Unpack

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from PIL import Image

from models.errors import UserError
from t2i.protos.v1 import generation_pb2 as pb
from t2i.protos.v1.generation_pb2_grpc import GenerationStub
from t2i.sampling import SamplingOptions

FORMATS = {"png": pb.IMAGE_FORMAT_PNG, "jpeg": pb.IMAGE_FORMAT_JPEG, "webp": pb.IMAGE_FORMAT_WEBP}
RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "t2i.v1.Generation"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


class ServiceError(UserError):
    """The service did not answer as asked; ``code`` is the gRPC status."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


class ServiceUnreachable(ServiceError):
    """Nothing listens at the address."""


class InvalidRequest(ServiceError):
    """The service refuses the request; ``field`` names the part that is wrong."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message, grpc.StatusCode.INVALID_ARGUMENT)
        self.field = field


@dataclass(frozen=True)
class GenerationProgress:
    """Image tokens made so far; ``stage`` is sample, decode or rank."""

    stage: str
    tokens_done: int
    tokens_total: int


@dataclass(frozen=True)
class GeneratedImage:
    """An encoded image, which of the candidates it is, and its CLIP cosine with the caption."""

    data: bytes
    format: str
    candidate: int
    score: float

    def pil(self) -> Image.Image:
        """The image, unpacked."""
        return Image.open(io.BytesIO(self.data))


@dataclass(frozen=True)
class Summary:
    """What was done: repeating ``seed`` under the same ``models`` (name -> hash) repeats the images."""

    seed: int
    tokens_spent: int
    caption_truncated: bool
    models: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """The images asked for, best first."""

    images: list[GeneratedImage]
    summary: Summary


class GenerateOptions(SamplingOptions, total=False):
    """What may be asked of a service beside the caption; see ``GenerateRequest`` for the defaults.

    ``image`` is an encoded image whose top ``image_rows`` rows of tokens every drawing continues; ``format`` is png,
    jpeg or webp.
    """

    candidates: int
    keep: int
    seed: int | None
    image: bytes | None
    image_rows: int | None
    format: str


class Client:
    """Talks to one service; close it, or use it in a ``with`` block."""

    def __init__(self, address: str = "127.0.0.1:50051") -> None:
        self.address = address
        unlimited = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        options = [
            *unlimited,
            ("grpc.service_config", json.dumps(RETRIES)),
            ("grpc.keepalive_time_ms", 30_000),
        ]
        self._channel = grpc.insecure_channel(address, options)
        self._generation = GenerationStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def generate(self, caption: str, *, timeout: float = 600.0, **wanted: Unpack[GenerateOptions]) -> Answer:
        """The best images for a caption; ``wanted`` are the fields of :class:`GenerateOptions`.

        Raises:
            InvalidRequest: a field is out of range.
            ServiceUnreachable: nothing listens at the address.
            ServiceError: anything else, such as an overloaded service or a deadline that passed.
        """
        request = _request(caption, wanted)
        with self._plain_errors():
            response = self._generation.Generate(request, timeout=timeout)
        return Answer([_image(image) for image in response.images], _summary(response.summary))

    def generate_stream(
        self, caption: str, *, timeout: float = 600.0, **wanted: Unpack[GenerateOptions]
    ) -> Iterator[GenerationProgress | GeneratedImage | Summary]:
        """The same as :meth:`generate` as it happens: progress, then the images best first, then the summary.

        Closing the iterator early stops the work on the server.
        """
        call = self._generation.GenerateStream(_request(caption, wanted), timeout=timeout)
        try:
            with self._plain_errors():
                for event in call:
                    yield _event(event)
        finally:
            call.cancel()

    def is_serving(self, service: str = "", timeout: float = 10.0) -> bool:
        """Whether the service, or the server as a whole, has all the models it needs.

        Raises:
            ServiceUnreachable: nothing listens at the address.
        """
        with self._plain_errors():
            answer = self._health.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise _plain_error(error, self.address) from error


def _request(caption: str, wanted: GenerateOptions) -> pb.GenerateRequest:
    """The message; what protobuf could not even carry is refused here."""
    fields = {name: value for name, value in wanted.items() if value is not None}
    format = fields.pop("format", "png")
    if format not in FORMATS:
        raise InvalidRequest(f"format is {format!r}: use {', '.join(FORMATS)}.", "format")
    request = pb.GenerateRequest(caption=caption, format=FORMATS[str(format)])
    for name, value in fields.items():
        try:
            setattr(request, name, value)
        except ValueError as error:
            raise InvalidRequest(f"{name} is {value!r}: use a smaller number.", name) from error
    return request


def _event(event: pb.GenerateStreamResponse) -> GenerationProgress | GeneratedImage | Summary:
    match event.WhichOneof("event"):
        case "progress":
            stage = pb.Stage.Name(event.progress.stage).removeprefix("STAGE_").lower()
            return GenerationProgress(stage, event.progress.tokens_done, event.progress.tokens_total)
        case "image":
            return _image(event.image)
        case _:
            return _summary(event.summary)


def _image(image: pb.Image) -> GeneratedImage:
    name = next(name for name, value in FORMATS.items() if value == image.format)
    return GeneratedImage(image.data, name, image.candidate, image.score)


def _summary(summary: pb.Summary) -> Summary:
    models = {field.name: value for field, value in summary.models.ListFields()}
    return Summary(summary.seed, summary.tokens_spent, summary.caption_truncated, models)


def _plain_error(error: grpc.RpcError, address: str) -> ServiceError:
    """Our own statuses carry a ``google.rpc.Status``; without one nobody of ours answered."""
    code, status = error.code(), rpc_status.from_call(error)
    if code == grpc.StatusCode.UNAVAILABLE and status is None:
        message = f"nothing answers at {address}: start the service with `t2i serve`, or name another address."
        return ServiceUnreachable(message, code)
    for detail in status.details if status else ():
        bad_request = error_details_pb2.BadRequest()
        if detail.Unpack(bad_request):
            return InvalidRequest(status.message, bad_request.field_violations[0].field)
    return ServiceError(f"{address} answered {code.name}: {error.details()}", code)
