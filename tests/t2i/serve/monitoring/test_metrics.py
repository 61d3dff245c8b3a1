"""What is counted of requests, by whichever door they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from models.run_layout import RunLayout
from models.tokenizer import CaptionTokenizer
from t2i.client import Client, GenerationProgress, ServiceError, UnauthenticatedError
from t2i.client.models import list_models
from t2i.protos.v1 import prior_pb2
from t2i.protos.v1.prior_pb2_grpc import PriorStub
from t2i.serve.access.keys import add_key
from t2i.serve.config import ServeConfig
from t2i.serve.http.limits import HttpLimits
from t2i.serve.messages import QueueFullError
from tests.t2i.serve.http.conftest import serve_http
from tests.t2i.serve.monitoring.conftest import Recorded
from tests.waiting import wait_until

CANDIDATES, KEPT, TOKENS = 5, 2, 64


def by_grpc(service: Any) -> None:
    with Client(service.address) as client:
        list(client.generate_stream("a red taco", candidates=CANDIDATES, keep=KEPT, seed=7, preview_rows=2))


def by_http(service: Any) -> None:
    limits = HttpLimits(max_candidates=64, time_limit_s=60, max_body_mb=1)
    wanted = {"caption": "a red taco", "candidates": CANDIDATES, "keep": KEPT, "seed": 7, "preview_rows": 2}
    with serve_http(service, limits) as http:
        assert "event: summary" in httpx.post(f"{http}/t2i/v1/generate", json=wanted, timeout=None).text


@pytest.mark.parametrize("ask", [by_grpc, by_http])
def test_both_doors_count_a_request_once(
    service: Any, recorded: Recorded, run_directory: Path, ask: Callable[[Any], None]
) -> None:
    ask(service)
    tokenizer = CaptionTokenizer.load(RunLayout(str(run_directory)).tokenizer)
    wait_until(lambda: bool(recorded.of("request_success_total", model="tiny", finished_reason="length")))
    assert recorded.total("request_success_total", model="tiny", finished_reason="length") == 1
    assert recorded.total("prompt_tokens_total", model="tiny") == len(tokenizer.encode("a red taco", 8).ids)
    assert recorded.total("generation_tokens_total", model="tiny") == CANDIDATES * TOKENS
    assert recorded.total("candidates_total", model="tiny") == CANDIDATES
    assert recorded.total("candidates_pruned_total", model="tiny") == CANDIDATES - KEPT
    assert recorded.total("images_total", model="tiny") == KEPT
    assert recorded.total("pixels_total", model="tiny") == KEPT * 32 * 32
    assert recorded.of("num_requests_waiting", model="tiny") == [1, 0]
    assert recorded.of("num_requests_running", model="tiny") == [1, 0]
    (seconds,), (preview,) = (recorded.of(name, model="tiny") for name in (LATENCY, "time_to_first_preview_seconds"))
    assert 0 < preview < seconds
    (per_step,) = recorded.of("accepted_tokens_per_step", model="tiny")
    assert 1 < per_step <= 4  # slots
    assert not any("wasted" in name or "failed" in name or "rejected" in name for name in recorded.names())


LATENCY = "e2e_request_latency_seconds"


def test_the_replicas_tell_their_queues_computations_and_slots(service: Any, recorded: Recorded) -> None:
    with Client(service.address) as client:
        client.generate("a red taco", candidates=CANDIDATES, seed=7)
    wait_until(lambda: recorded.of("slots_used", model="app")[-1:] == [0])
    assert max(recorded.of("slots_used", model="app")) == 4
    assert set(recorded.of("slots", model="app")) == {4}
    assert len(recorded.of("queue_seconds", model="app", stage="prior")) == 1
    assert len(recorded.of("compute_seconds", model="app", stage="prior")) >= CANDIDATES * TOKENS / 4
    for stage in ("decoder", "reranker"):
        assert len(recorded.of("queue_seconds", model="app", stage=stage)) >= CANDIDATES
        assert len(recorded.of("compute_seconds", model="app", stage=stage)) >= 1


def test_a_lost_replica_s_tokens_are_wasted(service: Any, recorded: Recorded) -> None:
    service.prior.losses = [10]
    with Client(service.address) as client:
        spent = client.generate("a red taco", candidates=CANDIDATES, seed=7).summary.tokens_spent
    assert recorded.total("calls_repeated_total", model="tiny") == 1
    assert recorded.total("generation_tokens_total", model="tiny") == spent > CANDIDATES * TOKENS
    repeated = recorded.total("wasted_tokens_total", model="tiny", reason="repeated")
    assert repeated == spent - CANDIDATES * TOKENS


def test_a_cancelled_request_is_counted_with_its_tokens(service: Any, recorded: Recorded) -> None:
    with Client(service.address) as client:
        events = client.generate_stream("a red taco", candidates=64)
        next(event for event in events if isinstance(event, GenerationProgress) and event.tokens_done > 100)
        events.close()
        wait_until(lambda: bool(recorded.of("requests_cancelled_total", model="tiny")))
    made = recorded.total("generation_tokens_total", model="tiny")
    assert recorded.total("wasted_tokens_total", model="tiny", reason="cancelled") == made > 100
    assert recorded.of("num_requests_running", model="tiny") == [1, 0]
    assert not recorded.of("request_success_total", model="tiny", finished_reason="length")


def test_a_passed_deadline_is_a_failure(service: Any, recorded: Recorded) -> None:
    with Client(service.address) as client, pytest.raises(ServiceError):
        client.generate("a red taco", candidates=64, timeout=0.3)
    wait_until(lambda: bool(recorded.of("requests_failed_total", model="tiny", reason="deadline")))
    assert recorded.total("requests_failed_total", model="tiny", reason="deadline") == 1


def test_rejects_are_counted_by_reason(service: Any, recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> Any:
        raise QueueFullError(100.0)
        yield

    with Client(service.address) as client:
        with pytest.raises(ServiceError):
            client.generate("")
        with pytest.raises(ServiceError):
            client.generate("a red taco", model="a stranger's words")
        monkeypatch.setattr(service.prior.replica, "sample", refuse)
        with pytest.raises(ServiceError):
            client.generate("a red taco", timeout=5)
    assert recorded.total("requests_rejected_total", model="tiny", reason="invalid") == 1
    assert recorded.total("requests_rejected_total", model="", reason="invalid") == 1
    assert recorded.total("requests_rejected_total", model="tiny", reason="queue_full") == 1


def test_unknown_keys_and_used_up_quotas_are_rejects(
    start_service: Callable[[ServeConfig], Any], service_config: ServeConfig, tmp_path: Path, recorded: Recorded
) -> None:
    file = tmp_path / "keys.yaml"
    word = add_key(file, "alice", tokens_per_minute=TOKENS)
    service = start_service(replace(service_config, keys=str(file)))
    with Client(service.address, key="wrong") as client, pytest.raises(UnauthenticatedError):
        client.generate("a red taco")
    assert recorded.total("requests_rejected_total", model="", reason="unauthenticated") == 1
    with Client(service.address, key=word) as client:
        client.generate("a red taco")
        with pytest.raises(ServiceError):
            client.generate("a red taco", timeout=2)
    assert recorded.total("requests_rejected_total", model="tiny", reason="quota") == 1


def test_the_prior_s_own_service_counts_too(service: Any, recorded: Recorded) -> None:
    stub = PriorStub(grpc.insecure_channel(service.address))
    list(stub.Sample(prior_pb2.SampleRequest(caption="a red taco", candidates=2, seed=7)))
    wait_until(lambda: bool(recorded.of("request_success_total", model="tiny", finished_reason="length")))
    assert recorded.total("generation_tokens_total", model="tiny") == 2 * TOKENS


def test_a_list_of_models_is_no_request(service: Any, recorded: Recorded) -> None:
    with Client(service.address) as client:
        list_models(client)
    assert not any("request" in name for name in recorded.names())
