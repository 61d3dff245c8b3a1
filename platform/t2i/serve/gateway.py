"""The front: a thin ``grpc.aio`` server inside a Serve deployment.

Serve's own gRPC proxy loses cancellations and has no health service, no deadlines and no say over error
texts, so the server is ours; Serve starts it, checks it, restarts it and scales it.
"""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ReplicaState

from t2i.logs import get_logger
from t2i.protos.v1 import decoder_pb2_grpc, generation_pb2_grpc, prior_pb2_grpc, reranker_pb2_grpc
from t2i.serve.config import ServeConfig
from t2i.serve.servicers.generation import GenerationServicer_, Limits, StageHandles
from t2i.serve.servicers.stages import Decoder, Prior, Reranker

HEALTH_PERIOD_S = 2.0
NEEDS = {
    "t2i.v1.Generation": {"prior", "decoder", "reranker"},
    "t2i.v1.Prior": {"prior"},
    "t2i.v1.Decoder": {"decoder"},
    "t2i.v1.Reranker": {"reranker"},
    "": {"prior", "decoder", "reranker"},
}
"""Deployments that each service works with; the nameless one stands for the server as a whole."""

logger = get_logger("serve.gateway")


class Gateway:
    """Listens, and answers the four services by calling the three deployments.

    Raises:
        RuntimeError: the port is taken.
    """

    def __init__(
        self,
        config: ServeConfig,
        prior: DeploymentHandle,
        decoder: DeploymentHandle,
        reranker: DeploymentHandle,
    ) -> None:
        self._drain_s = config.drain_s
        self._health = health.aio.HealthServicer()
        self._server, port = make_server(StageHandles(prior, decoder, reranker), self._health, config)
        self._address = f"{config.host}:{port}"
        self._task = asyncio.create_task(self._run())

    async def address(self) -> str:
        """``host:port`` this replica listens on."""
        return self._address

    async def check_health(self) -> None:
        """Serve replaces this replica when its task has ended."""
        if self._task.done():
            raise RuntimeError("the gateway stopped: see the log of its replica.")

    async def __del__(self) -> None:
        """Drain: no new requests, and time for the running ones."""
        self._task.cancel()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._drain_s)

    async def _run(self) -> None:
        await set_health(self._health, running=set())
        await self._server.start()
        logger.info("listening on %s", self._address)
        app = serve.get_replica_context().app_name
        while True:
            await set_health(self._health, await asyncio.to_thread(running_deployments, app))
            await asyncio.sleep(HEALTH_PERIOD_S)


def make_server(
    stages: StageHandles, health_servicer: health.aio.HealthServicer, config: ServeConfig
) -> tuple[grpc.aio.Server, int]:
    """A server with all services, bound but not started, and its port.

    Raises:
        RuntimeError: the port is taken.
    """
    limits = Limits(config.max_candidates, config.time_limit_s)
    server = grpc.aio.server(options=server_options(config.max_message_mb))
    generation_pb2_grpc.add_GenerationServicer_to_server(GenerationServicer_(stages, limits), server)
    prior_pb2_grpc.add_PriorServicer_to_server(Prior(stages.prior, limits), server)
    decoder_pb2_grpc.add_DecoderServicer_to_server(Decoder(stages.decoder, limits), server)
    reranker_pb2_grpc.add_RerankerServicer_to_server(Reranker(stages.reranker, limits), server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = [name for name in NEEDS if name]
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    return server, server.add_insecure_port(f"{config.host}:{config.port}")


def server_options(max_message_mb: int) -> list[tuple[str, int]]:
    """Channel arguments: no second server on the same port, large messages, idle connections kept alive."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_mb << 20),
        ("grpc.max_send_message_length", max_message_mb << 20),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


async def set_health(servicer: health.aio.HealthServicer, running: set[str]) -> None:
    """Report every service by whether all deployments it needs are running."""
    status = health_pb2.HealthCheckResponse
    for service, needed in NEEDS.items():
        await servicer.set(service, status.SERVING if needed <= running else status.NOT_SERVING)


def running_deployments(app: str) -> set[str]:
    """Deployments of a Serve application that have at least one running replica."""
    application = serve.status().applications.get(app)
    if application is None:
        return set()
    return {name for name, state in application.deployments.items() if state.replica_states.get(ReplicaState.RUNNING)}
