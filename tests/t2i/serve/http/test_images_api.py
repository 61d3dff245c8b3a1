"""OpenAI's Images API, asked by OpenAI's own Python client."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image

from t2i.client import Client
from t2i.serve.access.access import Access
from t2i.serve.access.keys import KeyRing, add_key
from t2i.serve.http.image_store import ImageStore
from t2i.serve.http.limits import HttpLimits
from t2i.serve.messages import QueueFullError
from tests.images import half_transparent
from tests.t2i.serve.conftest import LocalHandle
from tests.t2i.serve.http.conftest import serve_http
from tests.waiting import wait_until

PROMPT = "a red taco"


@pytest.fixture(scope="module")
def client(http: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{http}/v1", api_key="none", max_retries=0) as client:
        yield client


def ours(**fields: Any) -> dict[str, Any]:
    return {"extra_body": fields}


def test_the_images_are_those_of_grpc(client: OpenAI, service: Any) -> None:
    answer = client.images.generate(prompt=PROMPT, n=2, size="32x32", **ours(seed=7, candidates=5, temperature=0.9))
    with Client(service.address) as grpc_client:
        expected = grpc_client.generate(PROMPT, candidates=5, keep=2, seed=7, temperature=0.9)
    assert [base64.b64decode(image.b64_json or "") for image in answer.data or []] == [
        image.data for image in expected.images
    ]
    assert answer.usage is not None
    assert (answer.usage.output_tokens, answer.usage.input_tokens_details.image_tokens) == (5 * 64, 0)
    assert answer.usage.input_tokens > 0
    assert answer.model_extra is not None
    assert answer.model_extra["seed"] == 7
    assert answer.model_extra["models"] == expected.summary.models


def test_files_are_as_asked(client: OpenAI) -> None:
    def drawn(**fields: Any) -> bytes:
        data = client.images.generate(prompt=PROMPT, **ours(seed=7), **fields).data
        return base64.b64decode((data or [])[0].b64_json or "")

    kinds = {kind: drawn(output_format=kind) for kind in ("png", "jpeg", "webp")}
    assert {kind: (Image.open(io.BytesIO(data)).format or "").lower() for kind, data in kinds.items()} == {
        kind: kind for kind in kinds
    }
    assert len(drawn(output_format="jpeg", output_compression=5)) < len(kinds["jpeg"])


def test_quality_is_how_many_candidates_are_drawn(client: OpenAI) -> None:
    answer = client.images.generate(prompt=PROMPT, quality="medium")
    assert answer.usage is not None
    assert answer.usage.output_tokens == 4 * 64


def test_a_stream_has_upper_rows_and_then_the_images(client: OpenAI) -> None:
    stream: Any = client.images.generate(
        prompt=PROMPT, n=2, stream=True, partial_images=3, **ours(seed=7, candidates=3)
    )
    events = list(stream)
    whole = client.images.generate(prompt=PROMPT, n=2, **ours(seed=7, candidates=3))
    partial = [each for each in events if each.type == "image_generation.partial_image"]
    done = [each for each in events if each.type == "image_generation.completed"]
    assert [each.b64_json for each in done] == [each.b64_json for each in whole.data or []]
    assert 1 <= len(partial) <= 3  # rows that are done while one is being decoded are passed over
    assert [each.partial_image_index for each in partial] == list(range(len(partial)))
    assert [each.usage.output_tokens for each in done] == [0, 3 * 64]
    heights = [Image.open(io.BytesIO(base64.b64decode(each.b64_json))).height for each in partial]
    assert heights == sorted(set(heights))
    assert set(heights) <= {8, 16, 24}


def test_an_address_is_signed_and_ends_after_an_hour(client: OpenAI) -> None:
    (first,) = client.images.generate(prompt=PROMPT, response_format="url", **ours(seed=7)).data or []
    (other,) = client.images.generate(prompt=PROMPT, **ours(seed=7)).data or []
    assert first.url is not None
    fetched = httpx.get(first.url)
    assert fetched.headers["content-type"] == "image/png"
    assert fetched.content == base64.b64decode(other.b64_json or "")
    later = int(httpx.URL(first.url).params["expires"]) + 60
    changed = httpx.get(httpx.URL(first.url).copy_merge_params({"expires": str(later)}))
    assert (changed.status_code, changed.json()["error"]["param"]) == (403, "signature")
    with mock.patch("t2i.serve.http.image_store.time.time", return_value=time.time() + 3601):
        assert httpx.get(first.url).json()["error"]["code"] == "image_expired"


@pytest.mark.parametrize(
    ("fields", "param", "sentence"),
    [
        ({"prompt": ""}, "prompt", "at least 1 character"),
        ({"n": 11}, "n", "n is 11"),
        ({"size": "1024x1024"}, "size", "this model makes 32x32, use that or auto"),
        ({"background": "transparent"}, "background", "transparent"),
        ({"style": "vivid"}, "style", "vivid"),
        ({"partial_images": 1}, "partial_images", "needs a stream"),
        ({"output_compression": 50}, "output_compression", "not for png"),
        ({"response_format": "url", "stream": True}, "response_format", "use b64_json"),
        ({"extra_body": {"steps": 3}}, "steps", "leave it out"),
        ({"extra_body": {"candidates": 65}}, "candidates", "use 1 to 64"),
        ({"n": 3, "extra_body": {"candidates": 2}}, "candidates", "less than n: use at least 3"),
        ({"quality": "high", "extra_body": {"candidates": 2}}, "quality", "not both"),
        ({"extra_body": {"seed": -1}}, "seed", "seed is -1"),
    ],
)
def test_what_is_impossible_is_refused_by_name(
    client: OpenAI, fields: dict[str, Any], param: str, sentence: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=sentence) as caught:
        client.images.generate(**{"prompt": PROMPT, **fields})
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="use tiny") as caught:
        client.images.generate(prompt=PROMPT, model="gpt-image-1")
    assert caught.value.code == "model_not_found"


def test_models_are_listed_with_their_size(client: OpenAI) -> None:
    model, _ = client.models.list()  # and its alias
    assert (model.id, (model.model_extra or {})["size"]) == ("tiny", "32x32")


def test_a_full_queue_says_when_to_come_back(client: OpenAI, service: Any) -> None:
    async def full(_: object) -> Any:
        raise QueueFullError(2.5)
        yield

    with mock.patch.object(service.prior.replica, "sample", full), pytest.raises(openai.RateLimitError) as caught:
        client.images.generate(prompt=PROMPT)
    assert caught.value.response.headers["retry-after"] == "3"


def test_an_unexpected_error_shows_nothing_of_itself(client: OpenAI, service: Any) -> None:
    async def broken(_: object) -> Any:
        raise KeyError("/secret/path")
        yield

    headers = {"x-request-id": "mine-1"}
    with (
        mock.patch.object(service.prior.replica, "sample", broken),
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.images.generate(prompt=PROMPT, extra_headers=headers)
    assert "secret" not in caught.value.response.text
    assert "mine-1" in caught.value.message
    assert caught.value.request_id == "mine-1"


def test_the_time_limit_ends_a_request_and_is_not_repeated(
    start_http: Callable[[HttpLimits], Any], http_limits: HttpLimits
) -> None:
    with start_http(replace(http_limits, time_limit_s=0.3)) as address:
        client = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.InternalServerError, match="the time for this request is over") as caught:
            client.images.generate(prompt=PROMPT, **ours(candidates=64))
    assert caught.value.status_code == 504
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_each_answer_has_the_requests_id(http: str) -> None:
    assert httpx.get(f"{http}/v1/models", headers={"x-request-id": "mine-2"}).headers["x-request-id"] == "mine-2"
    made = [httpx.get(f"{http}/nowhere", headers={"x-request-id": "a b"}).headers["x-request-id"] for _ in range(2)]
    assert len(set(made)) == 2
    assert "a b" not in made


def test_a_body_that_is_too_large_is_refused(http: str) -> None:
    answer = httpx.post(f"{http}/v1/images/generations", content=b" " * (2 << 20))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_the_work(http: str, service: Any, stream: bool) -> None:
    fields = {"prompt": PROMPT, "candidates": 64, "stream": stream, "partial_images": 3 * stream}
    before = service.activity()["steps"]
    with httpx.Client(timeout=None) as leaving:
        request = leaving.build_request("POST", f"{http}/v1/images/generations", json=fields)
        if stream:
            answer = leaving.send(request, stream=True)
            next(answer.iter_bytes())
            answer.close()
        else:
            with pytest.raises(httpx.ReadTimeout):
                leaving.post(request.url, json=fields, timeout=httpx.Timeout(30, read=0.5))
    wait_until(lambda: service.activity()["requests"] == 0)
    assert service.activity()["steps"] - before < 64 * 64 / 4


def image_file(clear_from: int, side: int = 64) -> io.BytesIO:
    return io.BytesIO(half_transparent(side, clear_from))


def test_an_edit_draws_the_bottom_anew(client: OpenAI, service: Any) -> None:
    whole, mask = image_file(64), image_file(24)
    answer = client.images.edit(image=("a.png", whole), mask=("m.png", mask), prompt=PROMPT, n=2, **ours(seed=7))
    with Client(service.address) as grpc_client:
        expected = grpc_client.generate(PROMPT, candidates=2, keep=2, seed=7, image=whole.getvalue(), image_rows=3)
    assert [base64.b64decode(each.b64_json or "") for each in answer.data or []] == [
        each.data for each in expected.images
    ]
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == 3 * 8


def test_an_edit_can_be_streamed(client: OpenAI) -> None:
    stream: Any = client.images.edit(image=[("a.png", image_file(32))], prompt=PROMPT, stream=True, partial_images=1)
    assert [each.type for each in stream][-1] == "image_edit.completed"


@pytest.mark.parametrize(
    ("files", "fields", "param", "sentence"),
    [
        ({"image": image_file(20)}, {}, "mask", "let it begin at 16 or 24"),
        ({"image": image_file(64)}, {}, "mask", "keeps all of the image or nothing"),
        ({"image": image_file(64), "mask": image_file(16, side=32)}, {}, "mask", "of the image's size"),
        ({"image": [image_file(32), image_file(32)]}, {}, "image", "more than once"),
        ({"image": image_file(32)}, {"extra_body": {"input_fidelity": "high"}}, "input_fidelity", "leave it out"),
        ({"image": image_file(32)}, {"n": 11}, "n", "less than or equal to 10"),
        ({"image": io.BytesIO(b"no image")}, {}, "image", "no image of a known format"),
    ],
)
def test_edits_that_the_model_cannot_do_are_refused(
    client: OpenAI, files: dict[str, Any], fields: dict[str, Any], param: str, sentence: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=sentence) as caught:
        client.images.edit(prompt=PROMPT, **files, **fields)
    assert caught.value.param == param


def test_an_image_is_fetched_from_whichever_replica_answers(service: Any, http_limits: HttpLimits) -> None:
    limits, images = replace(http_limits, url_key="key"), LocalHandle(ImageStore(1 << 20))
    with serve_http(service, limits, images=images) as one, serve_http(service, limits, images=images) as other:
        client = OpenAI(base_url=f"{one}/v1", api_key="none", max_retries=0)
        (drawn,) = client.images.generate(prompt=PROMPT, response_format="url", **ours(seed=7)).data or []
        assert drawn.url is not None
        first, second = httpx.get(drawn.url), httpx.get(drawn.url.replace(one, other))
    assert first.status_code == second.status_code == 200
    assert first.content == second.content


def test_a_model_is_found_by_its_other_names(http: str, client: OpenAI, service: Any) -> None:
    entries = httpx.get(f"{http}/v1/models").json()["data"]
    assert [(entry["id"], entry["root"]) for entry in entries] == [("tiny", "tiny"), ("dall-e-3", "tiny")]
    data = client.images.generate(prompt=PROMPT, model="dall-e-3", **ours(seed=7)).data or []
    with Client(service.address) as grpc_client:
        answer = grpc_client.generate(PROMPT, seed=7, model="dall-e-3")
    assert base64.b64decode(data[0].b64_json or "") == answer.images[0].data
    assert answer.summary.receipt.recipe.model == "tiny"


def test_where_keys_are_needed_none_asks_without_one(service: Any, http_limits: HttpLimits, tmp_path: Path) -> None:
    word = add_key(tmp_path / "keys.yaml", "alice", concurrent=1)
    access = Access(KeyRing(str(tmp_path / "keys.yaml")), service.quotas)
    with serve_http(service, http_limits, access) as address:
        known, unknown = (OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0) for key in (word, "other"))
        assert known.images.generate(prompt=PROMPT).data
        for ask in (
            lambda: unknown.images.generate(prompt=PROMPT),
            lambda: unknown.images.edit(prompt=PROMPT, image=image_file(32)),
            lambda: unknown.models.list(),
        ):
            with pytest.raises(openai.AuthenticationError, match="does not know the key"):
                ask()
        answer = httpx.post(f"{address}/t2i/v1/generate", json={"caption": PROMPT})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
