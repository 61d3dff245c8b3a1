"""The gateway: a thin ``grpc.aio`` server inside a Serve deployment.

Serve's own gRPC proxy is not used: it does not pass on cancellations, has no health service and no deadlines, and does
not let us choose error messages. Serve starts, checks, restarts and scales the gateway like any deployment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from ray import serve

from t2i.logs import get_logger
from t2i.protos.v1 import decoder_pb2_grpc, generation_pb2_grpc, models_pb2_grpc, prior_pb2_grpc, reranker_pb2_grpc
from t2i.serve.access.access import Access
from t2i.serve.access.keys import KeyRing
from t2i.serve.access.tls import server_credentials
from t2i.serve.catalog import Catalog
from t2i.serve.config import ServeConfig
from t2i.serve.models import ServedModels
from t2i.serve.monitoring.declared import GATEWAY_STARTED, STAGE_READY
from t2i.serve.monitoring.recorder import observe
from t2i.serve.monitoring.setup import set_up_monitoring
from t2i.serve.names import ROLLOUT_APP
from t2i.serve.running import AppState, app_states
from t2i.serve.servicers.authentication import RequireKey
from t2i.serve.servicers.generation import GenerationService
from t2i.serve.servicers.health import HealthService
from t2i.serve.servicers.malformed import RefuseMalformed
from t2i.serve.servicers.models import ModelsService, RunningStages
from t2i.serve.servicers.rpc import Limits
from t2i.serve.servicers.stages import DecoderService, PriorService, RerankerService

PERIOD_S, HEALTHY_PERIOD_S = 1.0, 5.0
"""Seconds between two checks of which deployments are running, and after one by which all are: each is 0.1 s of CPU."""

REQUIRED_DEPLOYMENTS = {
    "t2i.v1.Generation": {"prior", "decoder", "reranker"},
    "t2i.v1.Prior": {"prior"},
    "t2i.v1.Decoder": {"decoder"},
    "t2i.v1.Reranker": {"reranker"},
    "": {"prior", "decoder", "reranker"},
}
"""gRPC service -> the deployments that it calls; in the health protocol the empty name means the whole server."""

logger = get_logger("serve.gateway")


class Gateway:
    """One gateway replica: a gRPC server that answers the services of ``t2i.v1`` by calling the models' deployments.

    ``quotas`` is the handle of the deployment that counts what keys use; ``changeable`` says whether there is one by
    which models are changed.

    Raises:
        RuntimeError: the port is taken.
        UserError: a file of keys or certificates cannot be used.
    """

    def __init__(
        self, config: ServeConfig, models: ServedModels | None = None, quotas: Any = None, changeable: bool = False
    ) -> None:
        set_up_monitoring(config, "gateway")
        self._drain_s = config.drain_s
        self._health = HealthService()
        self._models = models or ServedModels()
        rollout = serve.get_deployment_handle("rollout", ROLLOUT_APP, _check_exists=False) if changeable else None
        self._server, port = make_server(self._models, self._health, config, quotas, rollout=rollout)
        self.address = config.address(port)
        self._task = asyncio.create_task(self._run())

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve the models of this catalog from now on; Serve calls it at the start as well."""
        self._models.set(Catalog.from_user_config(user_config))

    async def check_health(self) -> None:
        """Raise RuntimeError if the server's task has ended; Serve then replaces this replica."""
        if self._task.done():
            raise RuntimeError("the gateway stopped: see the log of its replica.")

    async def __del__(self) -> None:
        """Call :meth:`drain`; Serve awaits this method when it stops the replica."""
        await self.drain()

    async def drain(self) -> None:
        """Refuse new requests, and stop the server once the running ones have ended or ``drain_s`` seconds are over."""
        self._task.cancel()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._drain_s)

    async def _run(self) -> None:
        """Start the server, then tell the health service every few seconds which deployments are running."""
        await set_health(self._health, running=set())
        await self._server.start()
        started = time.time()
        logger.info("listening on %s", self.address)
        while True:
            observe(GATEWAY_STARTED, started)  # again and again: what is told this early once is lost
            running = await asyncio.to_thread(running_deployments, self._models.catalog.apps)
            await set_health(self._health, running)
            await asyncio.sleep(HEALTHY_PERIOD_S if running >= REQUIRED_DEPLOYMENTS[""] else PERIOD_S)


def make_server(
    models: ServedModels,
    health_servicer: HealthService,
    config: ServeConfig,
    quotas: Any = None,
    running: RunningStages | None = None,
    rollout: Any = None,
) -> tuple[grpc.aio.Server, int]:
    """Return a server with all services, bound to its port but not started, and the number of the port.

    ``running`` tells which stages of each model are running; by default Serve is asked. ``rollout`` is the handle of
    the deployment that changes models; None: they cannot be changed.

    Raises:
        RuntimeError: the port is taken.
        UserError: a file of keys or certificates cannot be used.
    """
    access = Access(KeyRing(config.keys) if config.keys else None, quotas)
    limits = Limits(config.max_candidates, config.time_limit_s, access)
    server = grpc.aio.server(
        interceptors=[RequireKey(access), RefuseMalformed()], options=server_options(config.max_message_mb)
    )
    generation_pb2_grpc.add_GenerationServicer_to_server(GenerationService(models, limits), server)
    prior_pb2_grpc.add_PriorServicer_to_server(PriorService(models, limits), server)
    decoder_pb2_grpc.add_DecoderServicer_to_server(DecoderService(models, limits), server)
    reranker_pb2_grpc.add_RerankerServicer_to_server(RerankerService(models, limits), server)
    models_pb2_grpc.add_ModelsServicer_to_server(
        ModelsService(models, limits, running or running_stages, rollout), server
    )
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = [name for name in REQUIRED_DEPLOYMENTS if name]
    reflection.enable_server_reflection([*names, "t2i.v1.Models", health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    address = config.address(config.port)
    if config.tls.is_on:
        return server, server.add_secure_port(address, server_credentials(config.tls))
    return server, server.add_insecure_port(address)


def server_options(max_message_mb: int) -> list[tuple[str, int]]:
    """Return gRPC's settings: a node's gateways share the port, messages may be large, connections are kept alive."""
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", max_message_mb << 20),
        ("grpc.max_send_message_length", max_message_mb << 20),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


async def set_health(servicer: HealthService, running: set[str]) -> None:
    """Report each service as SERVING if all deployments that it calls are ``running``."""
    status = health_pb2.HealthCheckResponse
    for service, needed in REQUIRED_DEPLOYMENTS.items():
        await servicer.set(service, status.SERVING if needed <= running else status.NOT_SERVING)


def running_deployments(apps: Mapping[str, str]) -> set[str]:
    """Return the stages that have at least one running replica for every model, given the models' applications."""
    running = running_stages(apps).values()
    return set.intersection(*running) if running else set()


def running_stages(apps: Mapping[str, str]) -> dict[str, set[str]]:
    """Return by model which of its stages have at least one running replica, given the models' applications.

    Prometheus is told as well.
    """
    states = app_states()
    running = {model: set(states.get(app, AppState()).running) for model, app in apps.items()}
    for model, stages in running.items():
        for stage in REQUIRED_DEPLOYMENTS[""]:
            observe(STAGE_READY, float(stage in stages), model=model, stage=stage)
    return running
