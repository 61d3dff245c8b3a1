"""``/t2i/v1/generate``: the RPC ``GenerateStream`` as JSON and server-sent events, for pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter
from google.protobuf import json_format
from starlette.requests import Request
from starlette.responses import Response

from t2i.protos.v1 import generation_pb2 as pb
from t2i.sampling import RequestError
from t2i.serve.http.backend import Asked, Backend
from t2i.serve.http.description import EVENTS, FAILURES
from t2i.serve.http.event_stream import EventStream, event
from t2i.serve.servicers.generation import message_of
from t2i.serve.servicers.validation import check_format

BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}


class EventsApi:
    """Answers with progress, previews, images and the summary, as they come."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def router(self) -> APIRouter:
        """Return the route."""
        router = APIRouter(prefix="/t2i/v1")
        answers = {**FAILURES, 200: {"content": EVENTS, "description": "progress, preview, image and summary"}}
        router.add_api_route(
            "/generate", self.generate, methods=["POST"], response_class=Response, responses=answers, openapi_extra=BODY
        )
        return router

    async def generate(self, request: Request) -> EventStream:
        """Draw images for the JSON of a ``t2i.v1.GenerateRequest``; events are ``GenerateStreamResponse``."""
        asked = self._backend.asked(request)
        # Pages of other sites may send anything but JSON here.
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise RequestError("body", "the body is not said to be JSON: send content-type application/json.")
        message = _parse(await request.body())
        return EventStream(self._events(message, asked), asked.calls.id)

    async def _events(self, message: pb.GenerateRequest, asked: Asked) -> AsyncGenerator[bytes]:
        async with self._backend.working(asked) as calls, aclosing(self._backend.draw(message, calls)) as events:
            async for each in events:
                told = message_of(each, check_format(message.format))
                kind = told.WhichOneof("event") or ""
                fields = json_format.MessageToDict(
                    getattr(told, kind), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
                )
                yield event(kind, fields)


def _parse(body: bytes) -> pb.GenerateRequest:
    try:
        return json_format.Parse(body, pb.GenerateRequest())
    except (json_format.ParseError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else "it is no JSON"
        raise RequestError("body", f"the body is no t2i.v1.GenerateRequest: {reason}.") from error
