"""What is done to every request: it gets an id, and a body that is too large is refused while it arrives."""

from __future__ import annotations

import uuid

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from t2i.serve.http.limits import REQUEST_ID, request_id_of


class BodyTooLargeError(HTTPException):
    """A body that is larger than ``limit_mb`` MiB; an HTTPException, since FastAPI takes others for a wrong body."""

    def __init__(self, limit_mb: int) -> None:
        super().__init__(413)
        self.limit_mb = limit_mb


class NameRequests:
    """Gives each request an id, unless it brings one, and puts it into the answer's headers if ``echo``."""

    def __init__(self, app: ASGIApp, echo: bool) -> None:
        self._app, self._echo = app, echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id = request_id_of(HTTPConnection(scope)) or uuid.uuid4().hex[:12]
        MutableHeaders(scope=scope)[REQUEST_ID] = request_id

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start" and self._echo:
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        await self._app(scope, receive, send_named)


class LimitBodies:
    """Raises BodyTooLargeError in whoever reads a body once it is over ``limit_mb`` MiB."""

    def __init__(self, app: ASGIApp, limit_mb: int) -> None:
        self._app, self._limit_mb = app, limit_mb

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit_mb << 20:
                raise BodyTooLargeError(self._limit_mb)
            return message

        await self._app(scope, receive_counted, send)
