"""The stream of events: GenerateStream as JSON."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from t2i.client import Client
from t2i.serve.http import event_stream


def events(http: str, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    body = httpx.post(f"{http}/t2i/v1/generate", json=fields, timeout=None).text
    blocks = [block.split("\n") for block in body.split("\n\n") if block.startswith("event: ")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_tells_what_grpc_tells(http: str, service: Any) -> None:
    told = events(http, caption="a red taco", candidates=3, keep=2, seed=str(2**62 + 1), preview_rows=2)
    with Client(service.address) as client:
        expected = client.generate("a red taco", candidates=3, keep=2, seed=2**62 + 1)
    assert [base64.b64decode(data["data"]) for name, data in told if name == "image"] == [
        image.data for image in expected.images
    ]
    assert told[-1][0] == "summary"
    assert told[-1][1]["seed"] == str(2**62 + 1)
    assert {data["candidate"] for name, data in told if name == "preview" and "score" in data} == {0, 1, 2}
    done = [int(data["tokens_done"]) for name, data in told if name == "progress"]
    assert done == sorted(done)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"caption": "a", "steps": 3}', "body"),
        ('{"caption": "a", "candidates": "many"}', "body"),
        ("[", "body"),
        ('{"caption": ""}', "caption"),
        ('{"caption": "a", "keep": 2}', "keep"),
    ],
)
def test_what_is_impossible_is_refused(http: str, body: str, param: str) -> None:
    answer = httpx.post(f"{http}/t2i/v1/generate", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_other_sites_forms_are_refused(http: str) -> None:
    answer = httpx.post(f"{http}/t2i/v1/generate", content='{"caption": "a"}', headers={"content-type": "text/plain"})
    assert "content-type application/json" in answer.json()["error"]["message"]


def test_a_stream_is_kept_alive(http: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "ALIVE_S", 0.001)
    body = httpx.post(f"{http}/t2i/v1/generate", json={"caption": "a", "candidates": 4}, timeout=None).text
    assert ": working\n\n" in body


def test_an_error_in_a_stream_is_its_last_event(http: str, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> Any:
        raise KeyError("/secret/path")

    monkeypatch.setattr(service.reranker.replica, "rank", broken)
    (name, data) = events(http, caption="a red taco")[-1]
    assert (name, data["error"]["code"]) == ("error", "internal_error")
    assert "secret" not in str(data)
