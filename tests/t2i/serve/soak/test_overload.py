"""Ten times more requests than the service can answer."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import defaultdict

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from t2i.client import Client
from t2i.protos.v1.generation_pb2 import GenerateRequest
from t2i.protos.v1.generation_pb2_grpc import GenerationStub
from tests.soak import scaled
from tests.t2i.serve.soak.conftest import Note
from tests.t2i.serve.soak.service import SoakService, under_load, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(3600)]
SECONDS = scaled(60)
OVERLOAD = 10
QUEUE = 6
"""Requests that the service can answer within their deadline."""

REQUEST = GenerateRequest(caption="a red taco", candidates=4, keep=4, seed=7)
Seen = dict[grpc.StatusCode, list[float]]


def test_overload_is_refused_at_once_and_leaves_nothing_behind(service: SoakService, note: Note) -> None:
    capacity = answers_per_second(service)
    seen, health = asyncio.run(overload(service.grpc, OVERLOAD * capacity, deadline_s=QUEUE / capacity))
    with Client(service.grpc) as client:
        begin = time.monotonic()
        assert service.ask(client, "a red taco") == service.known["a red taco"]
        recovered = time.monotonic() - begin
    counts = {code.name: len(seconds) for code, seconds in seen.items()}
    refused = sorted(seen[grpc.StatusCode.RESOURCE_EXHAUSTED])
    told = (
        f"{len(seen[grpc.StatusCode.OK]) / SECONDS / capacity:.0%} of the answers at that load alone; refused after "
        f"{1e3 * statistics.median(refused):.0f} ms (median), {1e3 * refused[len(refused) * 99 // 100]:.0f} ms (99 %); "
        f"{counts.get('DEADLINE_EXCEEDED', 0)} ran into their deadline; healthy throughout; then {recovered:.1f} s"
    )
    note(f"{OVERLOAD} times the load, {SECONDS} s", f"{sum(counts.values())} requests", told)
    assert set(counts) <= {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
    assert counts.get("OK")
    assert health == {health_pb2.HealthCheckResponse.SERVING}
    wait_until(service.is_idle)


def answers_per_second(service: SoakService) -> float:
    """How much the service can do, with always enough to do."""
    begin = time.monotonic()
    with under_load(service, clients=QUEUE) as answers:
        time.sleep(5)
    return answers.right / (time.monotonic() - begin)


async def overload(address: str, rate: float, deadline_s: float) -> tuple[Seen, set[int]]:
    """Send so many requests a second at random moments; return how long each status took, and what health said."""
    seen: Seen = defaultdict(list)
    health: set[int] = set()
    chance, end = random.Random(7), time.monotonic() + SECONDS
    async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch(address, health))
        asking = []
        while time.monotonic() < end:
            asking.append(tasks.create_task(ask(GenerationStub(channel), deadline_s, seen)))
            await asyncio.sleep(chance.expovariate(rate))
        await asyncio.gather(*asking)
        watching.cancel()
    return seen, health


async def ask(stub: GenerationStub, deadline_s: float, seen: Seen) -> None:
    begin, call = time.monotonic(), stub.Generate(REQUEST, timeout=deadline_s)
    code = await call.code()
    seen[code].append(time.monotonic() - begin)
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        (detail,) = (await rpc_status.aio.from_call(call)).details
        assert detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR)


async def watch(address: str, health: set[int]) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        while True:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
            health.add(answer.status)
            await asyncio.sleep(0.2)
