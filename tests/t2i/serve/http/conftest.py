"""The HTTP application by uvicorn, over the replicas of the service without Ray."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvicorn

from t2i.serve.access.access import Access
from t2i.serve.config import ServeConfig
from t2i.serve.http.app import make_http
from t2i.serve.http.image_store import ImageStore
from t2i.serve.http.limits import HttpLimits
from tests.t2i.serve.conftest import LocalHandle


@contextmanager
def serve_http(
    service: Any, limits: HttpLimits, access: Access | None = None, images: LocalHandle | None = None
) -> Iterator[str]:
    """Yield the address of a server that answers in the service's event loop."""
    images = images or LocalHandle(ImageStore(1 << 20))
    app = make_http(service.models, limits, images, access)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        running = asyncio.run_coroutine_threadsafe(server.serve([listening]), service.loop)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = server.force_exit = True
        running.result()


@pytest.fixture(scope="session")
def http_limits(service_config: ServeConfig) -> HttpLimits:
    return HttpLimits.of(replace(service_config, max_message_mb=1))


@pytest.fixture(scope="session")
def http(service: Any, http_limits: HttpLimits) -> Iterator[str]:
    """The address of one server for all tests."""
    with serve_http(service, http_limits) as address:
        yield address


@pytest.fixture
def start_http(service: Any) -> Callable[[HttpLimits], Any]:
    """Start a server with limits of its own."""
    return lambda limits: serve_http(service, limits)
