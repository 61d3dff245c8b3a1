"""A client of the service: captions in, image files out; errors are exceptions with a one-sentence message."""

from __future__ import annotations

import io
import json
import re
import secrets
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Unpack

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from PIL import Image

from models.errors import UserError
from t2i.config import proxy_variable
from t2i.protos.v1 import generation_pb2 as pb
from t2i.protos.v1.generation_pb2_grpc import GenerationStub
from t2i.sampling import MAX_SEED, SamplingOptions
from t2i.serve.generation.receipt import Receipt, from_message

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
"""gRPC's own retries, for services that are starting or restarting.

They end where an answer has begun, so a stream is also asked for again by :meth:`Client.generate_stream`."""

ATTEMPTS = 4
PAUSE_S = 0.5
"""How often a stream is asked for, and for how long it waits the first time; then twice as long each time."""


class ServiceError(UserError):
    """The service answered with an error, or not at all; ``code`` is the gRPC status."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


class ServiceUnreachableError(ServiceError):
    """Nothing listens at the address."""


class ServiceBusyError(ServiceError):
    """What waits there would make the request late; ``retry_after_s`` seconds later it would not."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.retry_after_s = retry_after_s


class InvalidRequestError(ServiceError):
    """A field of the request is invalid; ``field`` is its name."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message, grpc.StatusCode.INVALID_ARGUMENT)
        self.field = field


@dataclass(frozen=True)
class GenerationProgress:
    """How far a request is.

    Attributes:
        stage: queue, sample, decode or rank.
        tokens_done: image tokens made so far, over all candidates; ``tokens_total`` will be made.
        candidates_ranked: candidates that are decoded and ranked.
        queue_position: place among the requests that wait, from 1; 0: it has begun.
        seconds_left: about how long sampling will still take; 0 if that is not known.
    """

    stage: str
    tokens_done: int
    tokens_total: int
    candidates_ranked: int
    queue_position: int
    seconds_left: float


@dataclass(frozen=True)
class Preview:
    """An image file of a candidate's first ``rows`` rows of tokens; once it is ranked, of the whole, with its score."""

    data: bytes
    format: str
    candidate: int
    rows: int
    score: float | None


@dataclass(frozen=True)
class GeneratedImage:
    """An image file ``data`` in ``format``, the number of its candidate, and its CLIP cosine with the caption."""

    data: bytes
    format: str
    candidate: int
    score: float

    def pil(self) -> Image.Image:
        """Return the image decoded."""
        return Image.open(io.BytesIO(self.data))


@dataclass(frozen=True)
class Summary:
    """How the images were made: the same ``seed`` with the same ``models`` gives the same images.

    ``tokens_spent`` counts the image tokens made; ``models`` are hashes of the weights of prior, decoder and reranker;
    ``receipt`` has all that the images follow from.
    """

    seed: int
    tokens_spent: int
    caption_truncated: bool
    models: dict[str, str]
    receipt: Receipt = field(compare=False)  # what it cost differs between two runs of one request


Event = GenerationProgress | Preview | GeneratedImage | Summary


@dataclass(frozen=True)
class Answer:
    """The best images, best first, and how they were made."""

    images: list[GeneratedImage]
    summary: Summary


class GenerationOptions(SamplingOptions, total=False):
    """What a client may ask for besides the caption; the defaults are those of ``GenerateRequest`` in ``protos/v1``.

    Attributes:
        candidates: images to sample.
        keep: how many of them to return, the best by CLIP.
        seed: repeats the images of an earlier request; None lets the service choose one.
        image: an image file, whose top every image continues.
        image_rows: rows of its image tokens to keep.
        preview_rows: :meth:`Client.generate_stream` also brings every candidate after every so many rows of its tokens.
        format: png, jpeg or webp.
        model: one of the models that the service has; by default its first.
        metadata: whether the files hold their recipe, for ``t2i redraw``; by default they do.
    """

    candidates: int
    keep: int
    seed: int | None
    image: bytes | None
    image_rows: int | None
    preview_rows: int
    format: str
    model: str
    metadata: bool


class Client:
    """A connection to one service; close it, or use it in a ``with`` block."""

    def __init__(self, address: str = "127.0.0.1:50051") -> None:
        self.address = address
        self._proxy = proxy_variable(host_of(address))
        unlimited = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        options = [
            *unlimited,
            ("grpc.service_config", json.dumps(RETRIES)),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.enable_http_proxy", int(self._proxy is not None)),
        ]
        self.channel = grpc.insecure_channel(address, options)
        self._generation = GenerationStub(self.channel)
        self._health = health_pb2_grpc.HealthStub(self.channel)

    def generate(self, caption: str, *, timeout: float = 600.0, **options: Unpack[GenerationOptions]) -> Answer:
        """Return the best images for a caption; ``timeout`` is in seconds.

        Raises:
            InvalidRequestError: a field is invalid.
            ServiceBusyError: what waits there would make the request late.
            ServiceUnreachableError: nothing listens at the address.
            ServiceError: anything else, such as a deadline that passed.
        """
        request = _request(caption, options)
        with self.translated_errors():
            response = self._generation.Generate(request, timeout=timeout)
        return Answer([_image(image) for image in response.images], _summary(response.summary))

    def generate_stream(
        self, caption: str, *, timeout: float = 600.0, **options: Unpack[GenerationOptions]
    ) -> Generator[Event]:
        """Yield the progress of :meth:`generate` and previews, then the images, best first, then the summary.

        Closing the generator early stops the work on the server. Raises the same errors as :meth:`generate`.
        """
        request, end, furthest = _request(caption, options), time.monotonic() + timeout, _Furthest()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                for event in self._stream(request, end - time.monotonic()):
                    if furthest.is_new(event):
                        yield event
                return
            except ServiceError as error:
                pause = PAUSE_S * 2 ** (attempt - 1)
                is_lost = error.code == grpc.StatusCode.UNAVAILABLE and furthest.has_begun
                if not is_lost or attempt == ATTEMPTS or time.monotonic() + pause > end:
                    raise
                time.sleep(pause)

    def _stream(self, request: pb.GenerateRequest, timeout: float) -> Generator[Event]:
        call = self._generation.GenerateStream(request, timeout=timeout)
        try:
            with self.translated_errors():
                for event in call:
                    yield _event(event)
        finally:
            call.cancel()

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

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Raise gRPC errors of the block as ServiceError."""
        try:
            yield
        except grpc.RpcError as error:
            raise _service_error(error, self.address, self._proxy) from error


class _Furthest:
    """What the caller of a stream knows already, when the same request begins again at another gateway."""

    def __init__(self) -> None:
        self.has_begun = False
        self._tokens_done = -1
        self._rows: dict[int, int] = {}
        self._images: set[int] = set()

    def is_new(self, event: Event) -> bool:
        """Return whether the caller does not know an event yet, and note it."""
        self.has_begun = True
        match event:
            case GenerationProgress():
                is_new = event.tokens_done >= self._tokens_done
                self._tokens_done = max(self._tokens_done, event.tokens_done)
            case Preview():
                is_new = event.rows > self._rows.get(event.candidate, 0)
                self._rows[event.candidate] = max(event.rows, self._rows.get(event.candidate, 0))
            case GeneratedImage():
                is_new = event.candidate not in self._images
                self._images.add(event.candidate)
            case Summary():
                is_new = True
        return is_new


def host_of(address: str) -> str:
    """Return the host of ``host:port``, where an IPv6 host stands in brackets.

    Raises:
        UserError: the address has another form.
    """
    form = re.fullmatch(r"(\[(?P<ipv6>[^\]]+)\]|(?P<name>[^:/\[\]]+)):\d+", address)
    if form is None:
        raise UserError(f"the server's address is {address!r}: use HOST:PORT, as 127.0.0.1:50051 or [::1]:50051.")
    return form["ipv6"] or form["name"]


def _request(caption: str, options: GenerationOptions) -> pb.GenerateRequest:
    """Return the message to send; its seed is one, so that it can be sent again for the same images.

    Raises:
        InvalidRequestError: protobuf cannot hold a value; all others are for the service to check.
    """
    fields = {name: value for name, value in options.items() if value is not None}
    image_format = fields.pop("format", "png")
    if image_format not in FORMATS:
        raise InvalidRequestError(f"format is {image_format!r}: use {', '.join(FORMATS)}.", "format")
    request = pb.GenerateRequest(caption=caption, format=FORMATS[str(image_format)], seed=secrets.randbelow(MAX_SEED))
    for name, value in fields.items():
        try:
            setattr(request, name, value)
        except ValueError as error:
            raise InvalidRequestError(f"{name} is {value!r}: use a smaller number.", name) from error
    return request


def _event(event: pb.GenerateStreamResponse) -> Event:
    match event.WhichOneof("event"):
        case "progress":
            return _progress(event.progress)
        case "preview":
            return _preview(event.preview)
        case "image":
            return _image(event.image)
        case _:
            return _summary(event.summary)


def _progress(progress: pb.Progress) -> GenerationProgress:
    return GenerationProgress(
        pb.Stage.Name(progress.stage).removeprefix("STAGE_").lower(),
        progress.tokens_done,
        progress.tokens_total,
        progress.candidates_ranked,
        progress.queue_position,
        progress.seconds_left,
    )


def _preview(preview: pb.Preview) -> Preview:
    score = preview.score if preview.HasField("score") else None
    return Preview(preview.data, _format(preview.format), preview.candidate, preview.rows, score)


def _image(image: pb.Image) -> GeneratedImage:
    return GeneratedImage(image.data, _format(image.format), image.candidate, image.score)


def _format(value: pb.ImageFormat.ValueType) -> str:
    return next(name for name, known in FORMATS.items() if known == value)


def _summary(summary: pb.Summary) -> Summary:
    models = {each.name: value for each, value in summary.models.ListFields()}
    receipt = from_message(Receipt, summary.receipt)
    return Summary(summary.seed, summary.tokens_spent, summary.caption_truncated, models, receipt)


def _service_error(error: grpc.RpcError, address: str, proxy: str | None) -> ServiceError:
    """Return a gRPC error as an exception of this module; UNAVAILABLE without a ``google.rpc.Status`` is gRPC's own.

    ``proxy`` is the variable that names the proxy on the way, if there is one.
    """
    code, status = error.code(), rpc_status.from_call(error)
    if code == grpc.StatusCode.UNAVAILABLE and status is None:
        return ServiceUnreachableError(_unreachable(address, proxy), code)
    for detail in status.details if status else ():
        bad_request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(bad_request):
            return InvalidRequestError(status.message, bad_request.field_violations[0].field)
        if detail.Unpack(retry):
            return ServiceBusyError(status.message, retry.retry_delay.ToTimedelta().total_seconds())
    return ServiceError(f"{address} answered {code.name}: {error.details()}", code)


def _unreachable(address: str, proxy: str | None) -> str:
    if proxy:
        return f"nothing answers at {address} through the proxy in {proxy}: add the host to no_proxy if it needs none."
    return f"nothing answers at {address}: start the service with `t2i serve`, or name another address."
