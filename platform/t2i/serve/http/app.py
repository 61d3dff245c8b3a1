"""The HTTP application, for any server that speaks ASGI."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from t2i.serve.access.access import Access
from t2i.serve.http.backend import Backend
from t2i.serve.http.errors import AnswerErrors, add_error_handlers
from t2i.serve.http.events_api import EventsApi
from t2i.serve.http.images_api import ImagesApi
from t2i.serve.http.limits import HttpLimits
from t2i.serve.http.middleware import LimitBodies, NameRequests
from t2i.serve.http.page import page_router
from t2i.serve.models import ServedModels


class _Described(FastAPI):
    """A FastAPI that does not describe its own 422: what cannot be read is a 400 here."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI description."""
        description = super().openapi()
        for operations in description["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            description["components"]["schemas"].pop(name, None)
        return description


def make_http(
    models: ServedModels, limits: HttpLimits, images: Any, access: Access | None = None, echo_request_id: bool = True
) -> FastAPI:
    """Return the application over these models, by default for everybody.

    ``images`` is the handle of an :class:`ImageStore`, which keeps what answers have only the addresses of.
    Serve's proxy puts the id of a request into the answer by itself.
    """
    # FastAPI's own pages of documentation load scripts from elsewhere.
    app = _Described(
        title="t2i",
        version=version("t2i-platform"),
        docs_url=None,
        redoc_url=None,
        telemetry={"operation_spans": False},  # one span of its own a request is enough
    )
    backend = Backend(models, limits, access or Access(), images)
    app.include_router(ImagesApi(backend).router())
    app.include_router(EventsApi(backend).router())
    app.include_router(page_router())
    add_error_handlers(app)
    app.add_middleware(AnswerErrors)  # innermost
    app.add_middleware(LimitBodies, limit_mb=limits.max_body_mb)
    app.add_middleware(NameRequests, echo=echo_request_id)
    return app
