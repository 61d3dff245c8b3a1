"""Server-sent events: each with a name and JSON, in a stream that ends when its client goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from t2i.serve.http.errors import error_response
from t2i.serve.http.presence import while_present

ALIVE_S = 15.0
"""Seconds between two comments in a stream: proxies cut what is silent for long."""


def event(name: str, data: Mapping[str, Any]) -> bytes:
    """Return an event as it is sent."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


class EventStream(Response):
    """Sends what ``events`` yields.

    An error before the first event is answered with its status; a later one is the stream's last event, ``error``.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes], request_id: str) -> None:
        super().__init__()
        self._events, self._request_id = events, request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose body has been read."""
        await while_present(receive, self._write(scope, receive, send))

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        alive: asyncio.Task[None] | None = None
        try:
            async with aclosing(self._events) as events:
                async for data in events:
                    alive = alive or await self._begin(send)
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except Exception as error:
            response = error_response(error, scope["path"], self._request_id)
            if alive is None:
                return await response(scope, receive, send)
            body = event("error", json.loads(bytes(response.body)))
            await send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            if alive is not None:
                alive.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _begin(self, send: Send) -> asyncio.Task[None]:
        """Send the headers; return the task that keeps the connection alive."""
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # nginx would collect events
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        return asyncio.create_task(_keep_alive(send))


async def _keep_alive(send: Send) -> None:
    while True:
        await asyncio.sleep(ALIVE_S)
        await send({"type": "http.response.body", "body": b": working\n\n", "more_body": True})
