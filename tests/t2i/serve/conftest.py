"""A tiny run directory with random weights, and the gateway's server over replicas in this process (no Ray)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from ray.exceptions import ActorDiedError

from models.reranker import CLIPConfig
from t2i.serve.access.quotas import QuotasReplica
from t2i.serve.config import PriorReplicaConfig, ServeConfig
from t2i.serve.gateway import make_server, set_health
from t2i.serve.generation import calls
from t2i.serve.generation.stages import StageHandles
from t2i.serve.messages import CaptionRequest
from t2i.serve.models import ServedModels
from t2i.serve.replicas import engine_loop
from t2i.serve.replicas.decoder import DecoderReplica
from t2i.serve.replicas.prior import PriorReplica
from t2i.serve.replicas.reranker import RerankerReplica
from t2i.serve.servicers.health import HealthService
from tests.random_run import write_random_run

CAPTIONS = [f"a {colour} {thing}" for colour in ("red", "green", "blue") for thing in ("taco", "cat", "house")]


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random models of an 8 x 8 grid and 32 px images: an image is 64 quick steps."""
    run = tmp_path_factory.mktemp("run")
    return write_random_run(run, CAPTIONS, text_length=8, clip=CLIPConfig())


@pytest.fixture(scope="session")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another version of the same models."""
    return write_random_run(tmp_path_factory.mktemp("other"), CAPTIONS, text_length=8, clip=CLIPConfig(), seed=1)


class LocalResponse:
    """What a deployment handle's call returns: awaitable, iterable, cancellable."""

    def __init__(self, work: Coroutine[Any, Any, Any] | AsyncGenerator[Any], lose_after: int | None) -> None:
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._lose_after = lose_after
        self._task: asyncio.Task[Any] = asyncio.create_task(
            self._pump(work) if isinstance(work, AsyncGenerator) else work
        )
        self._task.add_done_callback(lambda _: self._items.put_nowait(self._task))

    async def _pump(self, work: AsyncGenerator[Any]) -> None:
        async with aclosing(work):
            async for item in work:
                if self._lose_after == 0:
                    raise ActorDiedError
                self._lose_after = self._lose_after and self._lose_after - 1
                self._items.put_nowait(item)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._task.__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (item := await self._items.get()) is not self._task:
            yield item
        await self._task

    def cancel(self) -> None:
        self._task.cancel()


class LocalHandle:
    """A deployment handle over a replica in this process that can lose calls: after so many items each."""

    def __init__(self, replica: Any) -> None:
        self.replica = replica
        self.losses: list[int] = []

    def __getattr__(self, name: str) -> LocalMethod:
        return LocalMethod(self, name)


class LocalMethod:
    """One method of a LocalHandle."""

    def __init__(self, handle: LocalHandle, name: str) -> None:
        self._handle = handle
        self._name = name

    def options(self, stream: bool) -> LocalMethod:  # noqa: ARG002 - the name under which Serve takes it
        return self

    def remote(self, *arguments: object, **named: object) -> LocalResponse:
        lose_after = self._handle.losses.pop(0) if self._handle.losses else None
        method = getattr(self._handle.replica, self._name)
        named = named if hasattr(method, "__wrapped__") else {}  # a test's own replica need not take the origin
        if any(isinstance(argument, LocalResponse) for argument in arguments):
            return LocalResponse(_after(method, arguments, named), lose_after)
        return LocalResponse(method(*arguments, **named), lose_after)


async def _after(method: Callable[..., Any], arguments: Sequence[object], named: dict[str, object]) -> Any:
    """Call a method once the calls whose answers it takes have ended."""
    return await method(*[await each if isinstance(each, LocalResponse) else each for each in arguments], **named)


def make_stages(config: ServeConfig) -> StageHandles:
    """Replicas in this process; has to be called inside an event loop."""
    prior, decoder, reranker = PriorReplica(config), DecoderReplica(config), RerankerReplica(config)
    return StageHandles(LocalHandle(prior), LocalHandle(decoder), LocalHandle(reranker))


class LocalService:
    """The gateway's server on a thread of its own, over replicas made there."""

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self.running = {"prior", "decoder", "reranker"}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self._ready.wait()

    async def _serve(self) -> None:
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        stages = make_stages(self._config)
        self.prior, self.reranker = stages.prior, stages.reranker
        self._health = HealthService()
        self.models, self.quotas = ServedModels({"tiny": stages}, {"dall-e-3": ""}), LocalHandle(QuotasReplica())
        self.rollout = LocalHandle(None)  # a test says what changes models
        server, port = make_server(
            self.models, self._health, self._config, self.quotas, lambda _: {"tiny": self.running}, self.rollout
        )
        self.address = f"127.0.0.1:{port}"
        await server.start()
        self._ready.set()
        await self._stop.wait()
        await server.stop(None)

    def set_running(self, deployments: set[str]) -> None:
        """Tell the gateway which deployments are up."""
        self.running = deployments
        asyncio.run_coroutine_threadsafe(set_health(self._health, deployments), self.loop).result()

    @contextmanager
    def starting(self) -> Iterator[threading.Event]:
        """The prior answers only once the event is set, as if its replica were being started."""
        ready, sample = threading.Event(), self.prior.replica.sample

        async def late(wanted: CaptionRequest) -> AsyncGenerator[Any]:
            while not ready.is_set():
                await asyncio.sleep(0.01)
            async with aclosing(sample(wanted)) as events:
                async for event in events:
                    yield event

        with mock.patch.object(self.prior.replica, "sample", late), mock.patch.object(calls, "ANSWER_S", 0.05):
            yield ready

    def activity(self) -> dict[str, int]:
        """The prior's engine: steps made and requests inside."""
        return asyncio.run_coroutine_threadsafe(self.prior.replica.activity(), self.loop).result()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


@pytest.fixture(scope="session")
def replica_context() -> Iterator[None]:
    """What serve.batch and the gateway read of the replica they run in; progress comes with every step."""
    context = SimpleNamespace(app_name="app", _deployment_config=SimpleNamespace(max_ongoing_requests=100))
    with (
        mock.patch("ray.serve.get_replica_context", return_value=context),
        mock.patch.object(engine_loop, "PROGRESS_S", 0.0),
    ):
        yield


@pytest.fixture(scope="session")
def service_config(run_directory: Path) -> ServeConfig:
    return ServeConfig(
        run=str(run_directory), port=0, prior=PriorReplicaConfig(dtype="float32", slots=4, threads=1), max_candidates=64
    )


@pytest.fixture(scope="session")
def stages_factory(
    replica_context: None,  # noqa: ARG001 - the replicas need it
) -> Callable[[ServeConfig], StageHandles]:
    return make_stages


@pytest.fixture
def start_service(
    replica_context: None,  # noqa: ARG001 - the replicas need it
) -> Iterator[Callable[[ServeConfig], LocalService]]:
    """Starts services of other configurations, for one test each."""
    services: list[LocalService] = []

    def start(config: ServeConfig) -> LocalService:
        services.append(LocalService(config))
        return services[-1]

    yield start
    for service in services:
        service.close()


@pytest.fixture(scope="session")
def service(
    service_config: ServeConfig,
    replica_context: None,  # noqa: ARG001 - the replicas need it
) -> Iterator[LocalService]:
    """One service for all tests without Ray."""
    service = LocalService(service_config)
    yield service
    service.close()
