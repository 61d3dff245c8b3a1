"""The clients against a service in this process, and against one that is not there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from models.errors import UserError
from t2i.client import (
    Answer,
    AsyncClient,
    Client,
    Event,
    GeneratedImage,
    GenerationProgress,
    InvalidRequestError,
    ServiceUnreachableError,
    retries,
)


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


def test_the_async_client_has_the_same_answers(service: Any) -> None:
    async def main() -> tuple[Answer, list[Event], bool]:
        async with AsyncClient(service.address) as client:
            answer = await client.generate("a red taco", candidates=6, keep=2, seed=7)
            events = [event async for event in client.generate_stream("a red taco", candidates=6, keep=2, seed=7)]
            return answer, events, await client.is_serving()

    service.set_running({"prior", "decoder", "reranker"})
    answer, events, is_serving = asyncio.run(main())
    with Client(service.address) as client:
        assert answer == client.generate("a red taco", candidates=6, keep=2, seed=7)
    assert [event for event in events if isinstance(event, GeneratedImage)] == answer.images
    assert is_serving


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_to_close_or_cancel_an_async_stream_stops_the_work(service: Any, how: str) -> None:
    async def main() -> None:
        async with AsyncClient(service.address) as client:
            events = client.generate_stream("a red taco", candidates=64, seed=7)
            await anext(events)
            if how == "close":
                await events.aclose()
            else:
                task = asyncio.create_task(collect(events))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            while service.activity()["requests"]:
                await asyncio.sleep(0.01)

    before = service.activity()["steps"]
    asyncio.run(main())
    assert service.activity()["steps"] - before < 64 * 64 / 4


async def collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


@pytest.mark.parametrize("call", ["generate", "is_serving"])
def test_an_absent_server_is_named_by_the_async_client_too(nobody: str, call: str) -> None:
    async def main() -> None:
        async with AsyncClient(nobody) as client:
            await getattr(client, call)(*([] if call == "is_serving" else ["a red taco"]))

    with pytest.raises(ServiceUnreachableError, match=f"nothing answers at {nobody}"):
        asyncio.run(main())


def test_calls_are_sent_again_when_a_service_that_has_answered_is_lost(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.01)
    with Client(service.address) as client:
        expected = client.generate("a red taco", seed=7)
        service.prior.losses = [0, 0, 0]  # as often as the gateway asks: the client gets UNAVAILABLE
        assert client.generate("a red taco", seed=7) == expected
        service.prior.losses = [3, 3, 3]
        events = list(client.generate_stream("a red taco", seed=7))
    assert [event for event in events if isinstance(event, GeneratedImage)] == expected.images
    done = [event.tokens_done for event in events if isinstance(event, GenerationProgress)]
    assert done == sorted(done)
