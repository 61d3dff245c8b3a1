"""Exceptions as OpenAI's error body: ``{"error": {"message", "type", "param", "code"}}``, with the status that fits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from google.protobuf.message import Message as Protobuf
from google.rpc import code_pb2, error_details_pb2
from google.rpc.status_pb2 import Status
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from t2i.serve.http.limits import REQUEST_ID
from t2i.serve.http.middleware import BodyTooLargeError
from t2i.serve.servicers.errors import status_of

STATUSES = {
    code_pb2.INVALID_ARGUMENT: (400, "invalid_request_error", "invalid_value"),
    code_pb2.UNAUTHENTICATED: (401, "invalid_request_error", "invalid_api_key"),
    code_pb2.RESOURCE_EXHAUSTED: (429, "rate_limit_error", "queue_full"),
    code_pb2.DEADLINE_EXCEEDED: (504, "timeout_error", "deadline_exceeded"),
    code_pb2.UNAVAILABLE: (503, "server_error", "unavailable"),
    code_pb2.INTERNAL: (500, "server_error", "internal_error"),
}
"""gRPC's code -> HTTP status, type and code of the error body."""

OPENAI_NAMES = {
    "caption": "prompt",
    "keep": "n",
    "format": "output_format",
    "preview_rows": "partial_images",
}
"""Names of fields of ``GenerateRequest`` -> those of the Images API."""


def error_body(message: str, kind: str, param: str | None, code: str) -> dict[str, Any]:
    """Return the body of an error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(error: Exception, path: str, request_id: str) -> JSONResponse:
    """Return the answer to a request to ``path`` that failed: its sentence, and nothing of an unexpected exception."""
    status = status_of(error, request_id)
    http_status, kind, code = STATUSES[status.code]
    message, param = _in_words_of(path, status)
    if param == "model":
        http_status, code = 404, "model_not_found"
    return JSONResponse(error_body(message, kind, param, code), http_status, _headers(status))


def _in_words_of(path: str, status: Status) -> tuple[str, str | None]:
    """Return the message and the field of an error, under the names that the API at ``path`` has for fields."""
    names: Mapping[str, str] = OPENAI_NAMES if path.startswith("/v1/") else {}
    violation = _detail(status, error_details_pb2.BadRequest)
    if violation is None:
        return status.message, None
    field: str = violation.field_violations[0].field
    name = names.get(field, field)
    return re.sub(rf"\b{re.escape(field)}\b", name, status.message, count=1), name


def _headers(status: Status) -> dict[str, str]:
    """Return when to ask again; OpenAI's clients repeat 5xx unless they are told not to."""
    if status.code == code_pb2.DEADLINE_EXCEEDED:
        return {"x-should-retry": "false"}
    retry = _detail(status, error_details_pb2.RetryInfo)
    if retry is not None:
        return {"retry-after": str(math.ceil(retry.retry_delay.ToMilliseconds() / 1000))}
    return {"retry-after": "1"} if status.code in (code_pb2.RESOURCE_EXHAUSTED, code_pb2.UNAVAILABLE) else {}


def _detail(status: Status, kind: Any) -> Any:
    for packed in status.details:
        detail: Protobuf = kind()
        if packed.Unpack(detail):
            return detail
    return None


def add_error_handlers(app: FastAPI) -> None:
    """Answer what cannot be read or is not there with OpenAI's body; :class:`AnswerErrors` does the rest."""
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(BodyTooLargeError, _on_too_large)


class AnswerErrors:
    """Answers what else is raised, unless its client has gone; Starlette would raise it again, and leave out its id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        begun = False

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except ClientDisconnect:
            pass
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            response = error_response(error, scope["path"], Headers(scope=scope).get(REQUEST_ID, ""))
            await response(scope, receive, send)


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return invalid(error.errors()[0])


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_body")
    sentence = f"{request.method} {request.url.path} is not possible here: /openapi.json says what is."
    if code == "invalid_body":
        sentence = "the body cannot be read: send it as /openapi.json says."
    body = error_body(sentence, "invalid_request_error", None, code)
    return JSONResponse(body, error.status_code, error.headers)


async def _on_too_large(_: Request, error: Exception) -> Response:
    assert isinstance(error, BodyTooLargeError)
    sentence = f"the request is larger than {error.limit_mb} MiB: send less."
    return JSONResponse(error_body(sentence, "invalid_request_error", None, "request_too_large"), 413)


def invalid(problem: Mapping[str, Any]) -> JSONResponse:
    """Return the answer to a field that is unknown, missing or out of bounds, from pydantic's description."""
    field = next((part for part in problem["loc"] if isinstance(part, str) and part not in ("body", "query")), None)
    message, code = _sentence(problem, field)
    return JSONResponse(error_body(message, "invalid_request_error", field, code), 400)


def _sentence(problem: Mapping[str, Any], field: str | None) -> tuple[str, str]:
    """Return the sentence and the code for pydantic's description of a problem."""
    if field is None:
        return "the body is not possible: send the fields of the request as JSON.", "invalid_body"
    match problem["type"]:
        case "extra_forbidden":
            return f"{field} is not a field that is known here: leave it out.", "unknown_parameter"
        case "missing":
            return f"{field} is missing: it has to be given.", "missing_required_parameter"
    given = repr(problem["input"])
    given = given if len(given) <= 60 else f"{given[:57]}..."
    return f"{field} is {given}: {problem['msg'][0].lower()}{problem['msg'][1:]}.", "invalid_value"
