"""What the client refuses by itself, and a server that is not there."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from models.errors import UserError
from t2i.serve.client import Client, InvalidRequestError, ServiceUnreachableError


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("call", ["generate", "generate_stream", "is_serving"])
def test_an_absent_server_is_named(nobody: str, call: str) -> None:
    with Client(nobody) as client, pytest.raises(ServiceUnreachableError) as caught:
        list(getattr(client, call)(*([] if call == "is_serving" else ["a red taco"])))
    assert isinstance(caught.value, UserError)
    assert str(caught.value) == (
        f"nothing answers at {nobody}: start the service with `t2i serve`, or name another address."
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"format": "gif"}, "format"),
        ({"candidates": 2**40}, "candidates"),
        ({"keep": -(2**40)}, "keep"),
        ({"seed": 2**63}, "seed"),
        ({"candidates": 0}, "candidates"),
        ({"candidates": 4, "keep": 5}, "keep"),
    ],
)
def test_invalid_requests_name_the_field(service: Any, fields: dict[str, Any], field: str) -> None:
    with Client(service.address) as client, pytest.raises(InvalidRequestError) as caught:
        client.generate("a red taco", **fields)
    assert caught.value.field == field
    assert str(caught.value).startswith(field)
