"""Changes of the models, as a client asks for them: what it is told, and who may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from t2i.client import Client, InvalidRequestError, ServiceError, UnauthenticatedError
from t2i.client.models import remove_model, set_default_model
from t2i.protos.v1.models_pb2 import AddModelRequest, RemoveModelRequest
from t2i.protos.v1.models_pb2_grpc import ModelsStub
from t2i.serve.access.access import Access
from t2i.serve.access.keys import ForbiddenError, add_key
from t2i.serve.catalog import Catalog
from t2i.serve.cli import main
from t2i.serve.config import ServeConfig
from t2i.serve.gateway import make_server
from t2i.serve.messages import Added, Step
from t2i.serve.models import ServedModels
from t2i.serve.servicers.health import HealthService


class NotedRollout:
    """Notes what it is asked to do, on which catalog."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.known = Catalog()
        self.has_ended = False

    async def add(self, known: Catalog, name: str, run: str) -> AsyncIterator[Added]:
        self.known = known
        self.asked.append(("add", name, run))
        try:
            yield Added(Step.QUEUE)
            yield Added(Step.LOAD, 1, "no room")
            if name == "endless":
                await asyncio.Event().wait()
            yield Added(Step.LOAD, 2)
            yield Added(Step.LOAD, 2)
            yield Added(Step.SWITCH, 3)
            yield Added(Step.SERVED, 3)
        finally:
            self.has_ended = True

    async def remove(self, known: Catalog, name: str) -> None:
        self.asked.append(("remove", name))
        known.without(name)

    async def set_default(self, known: Catalog, name: str) -> None:
        self.asked.append(("default", name))
        known.with_default(name)


@pytest.fixture
def rollout(service: Any, monkeypatch: pytest.MonkeyPatch) -> NotedRollout:
    rollout = NotedRollout()
    monkeypatch.setattr(service.rollout, "replica", rollout)
    return rollout


def test_the_command_says_how_far_an_addition_is(
    service: Any,
    rollout: NotedRollout,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for run in ("s3://bucket/run", "run"):
        main(["models", "add", "small", run, "--server", service.address])
    assert rollout.asked == [("add", "small", "s3://bucket/run"), ("add", "small", str(tmp_path / "run"))]
    assert rollout.known == service.models.catalog
    assert capsys.readouterr().out.splitlines()[:5] == [
        "small: another change is made first",
        "small: 1 of 3 stages run: no room",
        "small: 2 of 3 stages run",
        "small: loaded, requests pass over to it",
        "small: served",
    ]


def test_a_command_that_is_interrupted_takes_its_change_back(service: Any, rollout: NotedRollout) -> None:
    with Client(service.address) as client:
        call = ModelsStub(client.channel).AddModel(AddModelRequest(name="endless"), timeout=60)
        next(call)
        call.cancel()

    async def ended() -> None:
        while not rollout.has_ended:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(ended(), 60))


def test_models_are_removed_and_made_the_default(
    service: Any, rollout: NotedRollout, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["models", "default", "tiny", "--server", service.address])
    assert capsys.readouterr().out == "tiny: the default\n"
    with pytest.raises(SystemExit):
        main(["models", "remove", "tiny", "--server", service.address])
    assert capsys.readouterr().err == "t2i: name: tiny is the default: make another the default first.\n"
    assert rollout.asked == [("default", "tiny")]


def test_a_key_changes_models_only_if_it_says_so(
    start_service: Callable[[ServeConfig], Any], service_config: ServeConfig, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.yaml"
    guest, admin = add_key(keys, "guest"), add_key(keys, "admin", admin=True)
    service = start_service(replace(service_config, keys=str(keys)))
    service.rollout.replica = rollout = NotedRollout()
    with Client(service.address, key=guest) as client, pytest.raises(ServiceError, match="key guest may not") as caught:
        set_default_model(client, "tiny")
    assert caught.value.code == grpc.StatusCode.PERMISSION_DENIED
    with Client(service.address) as client, pytest.raises(UnauthenticatedError):
        set_default_model(client, "tiny")
    assert rollout.asked == []
    with Client(service.address, key=admin) as client:
        set_default_model(client, "tiny")
        with pytest.raises(InvalidRequestError, match="model 'small' is not served here: use tiny"):
            remove_model(client, "small")
    assert rollout.asked == [("default", "tiny")]


@pytest.mark.parametrize(
    ("peer", "may"),
    [
        ("ipv4:127.0.0.1:4711", True),
        ("ipv6:%5B::1%5D:4711", True),
        ("ipv6:%5B::ffff:127.0.0.1%5D:4711", True),
        ("ipv4:10.0.0.1:4711", False),
        ("ipv6:%5B2001:db8::7%5D:4711", False),
        ("unix:", False),
    ],
)
def test_without_keys_models_are_changed_from_the_same_machine(peer: str, may: bool) -> None:
    if may:
        Access().check_admin(None, peer)
        return
    with pytest.raises(ForbiddenError, match="from the service's own machine"):
        Access().check_admin(None, peer)


def test_a_service_that_is_deployed_from_a_file_says_so(service_config: ServeConfig) -> None:
    async def ask() -> grpc.aio.AioRpcError:
        server, port = make_server(ServedModels(), HealthService(), service_config)
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ModelsStub(channel).RemoveModel(RemoveModelRequest(name="tiny"))
        await server.stop(None)
        return caught.value

    error = asyncio.run(ask())
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "this service is deployed from a file: change models there, and deploy it again."
