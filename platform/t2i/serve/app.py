"""The Serve application: a deployment for each of the three stages, and the gateway in front of them."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application

from t2i.config import load_mapping
from t2i.serve.config import ServeConfig, check_run
from t2i.serve.gateway import Gateway
from t2i.serve.replicas.decoder import DecoderReplica
from t2i.serve.replicas.prior import PriorReplica
from t2i.serve.replicas.reranker import RerankerReplica


def build_app(config: ServeConfig) -> Application:
    """Return the application of the four deployments; nothing is started yet.

    Raises:
        UserError: the run directory lacks a model.
    """
    check_run(config.run)
    prior = serve.deployment(name="prior", **config.prior.options())(PriorReplica).bind(config)
    decoder = serve.deployment(name="decoder", **config.decoder.options())(DecoderReplica).bind(config)
    reranker = serve.deployment(name="reranker", **config.reranker.options())(RerankerReplica).bind(config)
    gateway = serve.deployment(
        name="gateway",
        num_replicas=config.gateways,
        max_replicas_per_node=1,
        ray_actor_options={"num_cpus": 0.1},
        graceful_shutdown_timeout_s=config.drain_s + 5,
    )
    return gateway(Gateway).bind(config, prior, decoder, reranker)


def app(args: dict[str, Any]) -> Application:
    """Build the application for ``serve deploy``; ``args`` are the fields of :class:`ServeConfig`.

    Raises:
        ConfigError: a field is unknown, of the wrong type or out of its bounds.
        UserError: the run directory lacks a model.
    """
    return build_app(load_mapping(ServeConfig, args))
