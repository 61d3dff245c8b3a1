"""A service with keys: who may ask, how much, and what others get to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from t2i.client import Client, ServiceBusyError, ServiceError, UnauthenticatedError
from t2i.protos.v1.generation_pb2 import GenerateRequest
from t2i.protos.v1.generation_pb2_grpc import GenerationStub
from t2i.serve.access.keys import add_key
from t2i.serve.config import ServeConfig

StartService = Callable[[ServeConfig], Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


@pytest.fixture
def keyed(start_service: StartService, service_config: ServeConfig, file: Path) -> Any:
    """A service with keys; the test adds some."""
    file.write_text("keys: []\n")
    service = start_service(replace(service_config, keys=str(file)))
    service.set_running({"prior", "decoder", "reranker"})
    return service


def refusals(address: str, metadata: tuple[tuple[str, str], ...] = ()) -> list[grpc.RpcError]:
    """What a call, a stream, reflection and a method that there is not are answered."""
    channel = grpc.insecure_channel(address)
    request = GenerateRequest(caption="a red taco")
    listing = reflection_pb2.ServerReflectionRequest(list_services="")
    reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    calls: list[Callable[[], object]] = [
        lambda: GenerationStub(channel).Generate(request, metadata=metadata, timeout=30),
        lambda: list(GenerationStub(channel).GenerateStream(request, metadata=metadata, timeout=30)),
        lambda: list(reflect(iter([listing]), metadata=metadata, timeout=30)),
        lambda: channel.unary_unary("/t2i.v1.Nothing/Nothing")(b"", metadata=metadata, timeout=30),
        lambda: channel.unary_unary("/t2i.v1.Prior/Sample")(b"\xff", metadata=metadata, timeout=30),
    ]
    errors = []
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        errors.append(caught.value)
    return errors


def test_nothing_but_health_answers_without_a_key(keyed: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    word = add_key(file, "alice")
    for metadata in ((), (("authorization", "Bearer t2i-guessed"),), (("authorization", f"Basic {word}"),)):
        for error in refusals(keyed.address, metadata):
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED
            assert rpc_status.from_call(error).message == error.details()
            assert error.details().count(".") == 1
    with Client(keyed.address) as client:
        assert client.is_serving()
        with pytest.raises(UnauthenticatedError, match="a key is needed: send it as --key, T2I_KEY or"):
            client.generate("a red taco")
    with Client(keyed.address, key=word) as client:
        assert client.generate("a red taco", seed=7).images
    monkeypatch.setenv("T2I_KEY", word)
    with Client(keyed.address) as client:
        assert client.generate("a red taco", seed=7).images


def test_keys_are_exchanged_while_it_runs(keyed: Any, file: Path) -> None:
    old = add_key(file, "alice")
    with Client(keyed.address, key=old) as client:
        assert client.generate("a red taco").images
        file.unlink()
        new = add_key(file, "alice")
        with pytest.raises(UnauthenticatedError, match="does not know the key"):
            client.generate("a red taco")
    with Client(keyed.address, key=new) as client:
        assert client.generate("a red taco").images


def test_the_prior_is_fair_between_the_names_of_keys(keyed: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    sample = keyed.prior.replica.sample

    def noting(wanted: Any) -> Any:
        asked.append(wanted.client)
        return sample(wanted)

    monkeypatch.setattr(keyed.prior.replica, "sample", noting)
    for name in ("alice", "bob"):
        with Client(keyed.address, key=add_key(file, name)) as client:
            client.generate("a red taco")
    assert asked == ["alice", "bob"]


def test_a_used_up_quota_says_when(keyed: Any, file: Path) -> None:
    word = add_key(file, "alice", tokens_per_minute=64)
    limit = "key alice may ask for 64 image tokens a minute: 64 more are possible in"
    with Client(keyed.address, key=word) as client:
        assert client.generate("a red taco", candidates=4).summary.tokens_spent == 256  # three minutes of debt
        with pytest.raises(ServiceBusyError, match=limit) as caught:
            client.generate("a red taco", timeout=30)
    assert 0 <= caught.value.retry_after_s - retry_delay(refusal(keyed.address, word)) < 180
    with Client(keyed.address, key=add_key(file, "bob")) as client:
        assert client.generate("a red taco", candidates=2).images


def refusal(address: str, word: str) -> grpc.RpcError:
    """The error of a request that is sent once."""
    stub, metadata = GenerationStub(grpc.insecure_channel(address)), (("authorization", f"Bearer {word}"),)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Generate(GenerateRequest(caption="a red taco"), metadata=metadata, timeout=30)
    return caught.value


def retry_delay(error: grpc.RpcError) -> float:
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    retry = error_details_pb2.RetryInfo()
    assert rpc_status.from_call(error).details[0].Unpack(retry)
    return retry.retry_delay.ToTimedelta().total_seconds()


def test_a_client_waits_for_its_quota_within_its_deadline(keyed: Any, file: Path) -> None:
    with Client(keyed.address, key=add_key(file, "alice", tokens_per_minute=64 * 40)) as client:
        expected = client.generate("a red taco", candidates=40, seed=7)
        assert client.generate("a red taco", seed=7, timeout=60).images  # 1.5 s for its 64 tokens
    assert expected.images


def test_tokens_that_a_cancelled_request_did_not_spend_come_back(keyed: Any, file: Path) -> None:
    word = add_key(file, "alice", tokens_per_minute=64 * 64, concurrent=1)
    with Client(keyed.address, key=word) as client:
        events = client.generate_stream("a red taco", candidates=64)
        next(events)
        next(events)
        refused = refusal(keyed.address, word)
        assert "has 1 requests at once, and may have 1" in refused.details()
        assert retry_delay(refused) > 0
        events.close()
        answer = client.generate("a red taco", candidates=32, timeout=60)
    assert answer.summary.tokens_spent == 32 * 64


def test_places_are_free_again_after_every_kind_of_end(keyed: Any, file: Path) -> None:
    with Client(keyed.address, key=add_key(file, "alice", concurrent=1)) as client:
        for _ in range(3):
            client.generate("a red taco", timeout=60)
            with pytest.raises(ServiceError):
                client.generate("", timeout=60)
            with pytest.raises(ServiceError):
                client.generate("a red taco", candidates=64, timeout=0.2)
        client.generate("a red taco", timeout=60)
