"""The Serve applications: of the gateways, of HTTP, and one for each model with a deployment for each of its stages.

They are apart so that gateways finish what they have begun before the stages stop, and so that models come and go while
the gateways stay.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ray import serve
from ray.serve import Application

from t2i.config import load_mapping
from t2i.serve.access.access import check_access
from t2i.serve.access.quotas import QuotasReplica
from t2i.serve.config import ServeConfig, check_run
from t2i.serve.gateway import Gateway
from t2i.serve.monitoring.tracing import check_tracing, variables_to_hand_on

GATEWAY_APP = "t2i"
HTTP_APP = "t2i-http"
GATEWAYS_PER_NODE = 2
"""Gateways that one node may have: they share its port, so that one answers while the other is being replaced."""


def model_app(config: ServeConfig, run: str) -> Application:
    """Return the application of a run's prior, decoder and reranker; nothing is started yet.

    Raises:
        UserError: the run directory lacks a model.
    """
    from t2i.serve.replicas.decoder import DecoderReplica  # these import torch, which a gateway does without
    from t2i.serve.replicas.prior import PriorReplica
    from t2i.serve.replicas.reranker import RerankerReplica

    check_run(run)
    config = replace(config, run=run)
    decoder = _deployment("decoder", config.decoder, config)(DecoderReplica).bind(config)
    reranker = _deployment("reranker", config.reranker, config)(RerankerReplica).bind(config)
    # An application is one deployment and what it is given: the prior is given the others, and needs none of them.
    app: Application = _deployment("prior", config.prior, config)(PriorReplica).bind(config, decoder, reranker)
    return app


def gateway_app(config: ServeConfig) -> Application:
    """Return the application of the gateways and, if clients need keys, of ``quotas``; nothing is started yet.

    Raises:
        UserError: a file of keys or certificates cannot be used, or traces cannot be sent.
    """
    check_access(config)
    check_tracing()
    gateway = serve.deployment(
        name="gateway",
        num_replicas=config.gateways,
        max_replicas_per_node=GATEWAYS_PER_NODE,
        ray_actor_options=_actor(num_cpus=0.1),
        graceful_shutdown_timeout_s=config.drain_s + 5,
        health_check_period_s=2.0,
        user_config={"models": config.model_names},
    )
    return gateway(Gateway).bind(config, quotas=_quotas(config) if config.keys else None)


def http_app(config: ServeConfig) -> Application:
    """Return the application that answers HTTP behind Serve's proxy; nothing is started yet."""
    from t2i.serve.http.deployment import HttpDoor  # imports FastAPI, which a gateway does without

    # One replica: it holds the images whose addresses it has given away.
    door = serve.deployment(
        name="http",
        num_replicas=1,
        max_ongoing_requests=1000,
        ray_actor_options=_actor(num_cpus=0.1),
        graceful_shutdown_timeout_s=config.drain_s + 5,
        health_check_period_s=2.0,
        user_config={"models": config.model_names},
    )
    return door(serve.ingress()(HttpDoor)).bind(config)


def gateway(args: dict[str, Any]) -> Application:
    """Build the gateways' application for ``serve deploy``; ``args`` are the fields of :class:`ServeConfig`.

    Raises:
        ConfigError: a field is unknown, of the wrong type or out of its bounds.
        UserError: a file of keys or certificates cannot be used.
    """
    return gateway_app(load_mapping(ServeConfig, args))


def http(args: dict[str, Any]) -> Application:
    """Build the application that answers HTTP for ``serve deploy``; ``args`` are the fields of :class:`ServeConfig`.

    Raises:
        ConfigError: a field is unknown, of the wrong type or out of its bounds.
    """
    return http_app(load_mapping(ServeConfig, args))


def model(args: dict[str, Any]) -> Application:
    """Build the application of the model ``run`` for ``serve deploy``; ``args`` are the fields of :class:`ServeConfig`.

    Raises:
        ConfigError: a field is unknown, of the wrong type or out of its bounds.
        UserError: the run directory lacks a model.
    """
    config = load_mapping(ServeConfig, args)
    return model_app(config, config.run)


def _quotas(config: ServeConfig) -> Any:
    quotas = serve.deployment(
        name="quotas",
        num_replicas=1,
        max_ongoing_requests=1000,
        ray_actor_options=_actor(num_cpus=0),
        graceful_shutdown_timeout_s=config.drain_s + 5,  # a gateway that drains still tells what was spent
        health_check_period_s=2.0,
    )
    return quotas(QuotasReplica).bind()


def _deployment(name: str, replicas: Any, config: ServeConfig) -> Any:
    # A stage may be asked until the last gateway has drained.
    options = replicas.options()
    options["ray_actor_options"] = _actor(**options["ray_actor_options"])
    return serve.deployment(name=name, graceful_shutdown_timeout_s=config.drain_s + 10, **options)


def _actor(**resources: float) -> dict[str, Any]:
    """Return the options of a replica's actor; it sends traces to where this process would."""
    variables = variables_to_hand_on()
    return {**resources, "runtime_env": {"env_vars": variables}} if variables else dict(resources)
