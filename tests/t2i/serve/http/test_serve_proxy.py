"""HTTP on a real local Ray Serve, behind its own proxy."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from t2i.client import Client
from t2i.serve.catalog import app_of
from t2i.serve.config import PriorReplicaConfig, ServeConfig, name_of
from t2i.serve.launch import free_port, launch_service
from tests.waiting import wait_until

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def addresses(
    ray_cluster: None,  # noqa: ARG001 - Serve runs on it
    run_directory: Path,
) -> Iterator[tuple[str, str]]:
    """Of gRPC and of HTTP."""
    from ray import serve

    serve.shutdown()  # one that runs keeps the proxies that it has: none
    config = ServeConfig(
        run=str(run_directory), port=0, prior=PriorReplicaConfig(dtype="float32", slots=4, threads=1), drain_s=1.0
    )
    config.http_port = free_port(config)
    with launch_service(config) as address:
        yield address, f"http://127.0.0.1:{config.http_port}"
    serve.shutdown()


def test_serves_the_page_the_api_and_the_probe(addresses: tuple[str, str]) -> None:
    grpc, http = addresses
    wait_until(lambda: httpx.get(f"{http}/-/healthz").text == "success")
    assert "<title>Text to image</title>" in httpx.get(http).text
    client = OpenAI(base_url=f"{http}/v1", api_key="none", max_retries=0)
    (image,) = client.images.generate(prompt="a red taco", extra_body={"seed": 7}).data or []
    (address,) = client.images.generate(prompt="a red taco", response_format="url", extra_body={"seed": 7}).data or []
    assert {httpx.get(address.url or "").content for _ in range(8)} == {base64.b64decode(image.b64_json or "")}
    with Client(grpc) as grpc_client:
        assert [each.data for each in grpc_client.generate("a red taco", seed=7).images] == [
            base64.b64decode(image.b64_json or "")
        ]


def test_the_id_of_a_request_comes_back_once(addresses: tuple[str, str]) -> None:
    answer = httpx.get(f"{addresses[1]}/v1/models", headers={"x-request-id": "mine"})
    assert answer.headers.get_list("x-request-id") == ["mine"]
    assert len(httpx.get(f"{addresses[1]}/v1/models").headers.get_list("x-request-id")) == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_the_work(addresses: tuple[str, str], run_directory: Path, stream: bool) -> None:
    from ray import serve

    prior = serve.get_deployment_handle("prior", app_of(name_of(str(run_directory))))
    before = prior.activity.remote().result()["steps"]
    fields = {"prompt": "a red taco", "candidates": 512, "stream": stream, "partial_images": 3 * stream}
    with httpx.Client(timeout=httpx.Timeout(60, read=60 if stream else 2.0)) as leaving:
        request = leaving.build_request("POST", f"{addresses[1]}/v1/images/generations", json=fields)
        if stream:
            answer = leaving.send(request, stream=True)
            next(answer.iter_bytes())
            answer.close()
        else:
            with pytest.raises(httpx.ReadTimeout):
                leaving.send(request)
    wait_until(lambda: prior.activity.remote().result()["requests"] == 0)
    assert prior.activity.remote().result()["steps"] - before < 512 * 64 / 4 / 2
