"""What the client refuses by itself, and a server that is not there."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from models.errors import UserError
from t2i.serve.client import Client, InvalidRequestError, ServiceUnreachableError, host_of


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


@pytest.mark.parametrize(
    ("address", "host"),
    [("127.0.0.1:50051", "127.0.0.1"), ("[::1]:50051", "::1"), ("images.example.com:80", "images.example.com")],
)
def test_the_host_of_an_address(address: str, host: str) -> None:
    assert host_of(address) == host


@pytest.mark.parametrize("address", ["", "127.0.0.1", "::1", "::1:50051", "[::1]", "http://127.0.0.1:50051", "a:b"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=r"use HOST:PORT, as 127.0.0.1:50051 or \[::1\]:50051\.$"):
        Client(address)


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_proxy_takes_no_call_to_this_machine_and_is_named_for_others(
    service: Any, nobody: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, f"http://{nobody}")
    service.set_running({"prior", "decoder", "reranker"})
    with Client(service.address) as client:
        assert client.is_serving()
    message = f"nothing answers at t2i.invalid:1 through the proxy in {variable}: add the host to no_proxy"
    with Client("t2i.invalid:1") as client, pytest.raises(ServiceUnreachableError, match=message):
        client.is_serving()
