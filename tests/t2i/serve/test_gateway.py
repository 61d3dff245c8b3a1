"""The gateway's life: not ready before the models are, one server on a port, draining at the end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ray.serve.schema import (  # type: ignore[attr-defined]  # the module does not list all of them in __all__
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ReplicaState,
)

from t2i.protos.v1.generation_pb2 import GenerateRequest
from t2i.protos.v1.generation_pb2_grpc import GenerationStub
from t2i.serve import gateway as module
from t2i.serve.catalog import app_of
from t2i.serve.config import ServeConfig
from t2i.serve.gateway import Gateway, make_server, running_stages
from t2i.serve.generation.stages import StageHandles
from t2i.serve.models import ServedModels
from t2i.serve.servicers.health import HealthService

StagesFactory = Callable[[ServeConfig], StageHandles]
NO_STAGES = StageHandles(None, None, None)


def models(stages: StageHandles) -> ServedModels:
    return ServedModels({"tiny": stages})


class DrainedGateway(Gateway):
    """A gateway that tests drain themselves: Serve awaits ``__del__``, the garbage collector here would not."""

    def __del__(self) -> None:  # type: ignore[override]
        pass


def start(config: ServeConfig, stages: StageHandles) -> Gateway:
    return DrainedGateway(config, models(stages))


def test_stopping_by_serve_is_draining(monkeypatch: pytest.MonkeyPatch) -> None:
    drained: list[Gateway] = []

    async def drain(self: Gateway) -> None:
        drained.append(self)

    monkeypatch.setattr(Gateway, "drain", drain)
    gateway = DrainedGateway.__new__(DrainedGateway)
    asyncio.run(Gateway.__del__(gateway))
    assert drained == [gateway]


@pytest.mark.usefixtures("replica_context")
def test_is_not_serving_until_the_models_are_there(
    service_config: ServeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: set[str] = set()
    monkeypatch.setattr(module, "running_deployments", lambda _: running)
    monkeypatch.setattr(module, "PERIOD_S", 0.01)

    async def main() -> list[int]:
        gateway = start(service_config, NO_STAGES)
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            before = await check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            running.update({"prior", "decoder", "reranker"})
            while (after := await check(health_pb2.HealthCheckRequest())).status == before.status:
                await asyncio.sleep(0.01)
        await gateway.drain()
        return [before.status, after.status]

    status = health_pb2.HealthCheckResponse
    assert asyncio.run(main()) == [status.NOT_SERVING, status.SERVING]


def test_draining_finishes_what_runs_and_takes_nothing_new(
    service_config: ServeConfig, stages_factory: StagesFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "running_deployments", lambda _: {"prior", "decoder", "reranker"})
    request = GenerateRequest(caption="a red taco", candidates=16, seed=7)

    async def main() -> tuple[list[str], grpc.StatusCode]:
        gateway = start(replace(service_config, drain_s=60.0), stages_factory(service_config))
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            stub = GenerationStub(channel)
            stream = stub.GenerateStream(request, wait_for_ready=True)
            events = aiter(stream)
            await anext(events)
            stopping = asyncio.create_task(gateway.drain())
            await asyncio.sleep(0.05)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Generate(request)
            kinds = [event.WhichOneof("event") async for event in events]
            await stopping
        return kinds, refused.value.code()

    kinds, code = asyncio.run(main())
    assert kinds[-2:] == ["image", "summary"]
    assert code == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("status", "states", "answers"),
    [
        ("UPDATING", {"STARTING": 1}, False),
        ("UNHEALTHY", {"STARTING": 1}, False),
        ("UNHEALTHY", {"RUNNING": 1, "STARTING": 1}, True),
        ("HEALTHY", {}, True),  # the autoscaler has left none, since nobody asks
        ("UPSCALING", {"STARTING": 1}, True),
    ],
)
def test_a_stage_that_sleeps_answers(
    monkeypatch: pytest.MonkeyPatch, status: str, states: dict[str, int], answers: bool
) -> None:
    counts = {ReplicaState(name): count for name, count in states.items()}
    deployment = DeploymentStatusOverview(DeploymentStatus(status), DeploymentStatusTrigger.UNSPECIFIED, counts, "")
    application = SimpleNamespace(deployments={"prior": deployment}, status="RUNNING")
    served = SimpleNamespace(applications={app_of("tiny"): application})
    monkeypatch.setattr("ray.serve.status", lambda: served)
    assert running_stages({"tiny": app_of("tiny")}) == {"tiny": {"prior"} if answers else set()}


@pytest.mark.parametrize("host", ["::1", "[::1]", "::", "127.0.0.1", "0.0.0.0"])
def test_it_listens_on_either_kind_of_address(service_config: ServeConfig, host: str) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")

    async def main() -> int:
        return make_server(models(NO_STAGES), HealthService(), replace(service_config, host=host, insecure=True))[1]

    assert asyncio.run(main()) > 0


def test_a_port_in_use_is_an_error(service_config: ServeConfig) -> None:
    async def main(port: int) -> None:
        make_server(models(NO_STAGES), HealthService(), replace(service_config, port=port))

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RuntimeError, match="bind"):
        asyncio.run(main(taken.getsockname()[1]))
