"""The Serve applications: of gateways, of HTTP, of changes, and one for each model with a deployment for each stage.

They are apart so that gateways finish what they have begun before the stages stop, and so that models come and go while
the gateways stay.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

from ray import serve
from ray.serve import Application

from t2i.config import load_mapping
from t2i.serve.access.access import check_access
from t2i.serve.access.quotas import QuotasReplica
from t2i.serve.catalog import Catalog, app_of
from t2i.serve.config import GATEWAY_CPUS, GATEWAYS_PER_NODE, ModelConfig, ServeConfig
from t2i.serve.gateway import Gateway
from t2i.serve.monitoring.tracing import check_tracing, variables_to_hand_on
from t2i.serve.names import GATEWAY_APP, HTTP_APP, ROLLOUT_APP
from t2i.serve.runs import version_of


@dataclass(frozen=True)
class Launched:
    """A service that this project's own code deploys, and not Serve from a file: its models can be changed.

    ``version`` marks the deployments that stay as they are while models change: where Serve finds the same one, it
    tells running replicas of their new ``user_config`` instead of starting others.
    """

    config: ServeConfig
    version: str

    @classmethod
    def of(cls, config: ServeConfig) -> Launched:
        """Return a service that is about to be launched; none before it has the same version."""
        config = ServeConfig(**config.settings)  # replicas need not know the class of the command's
        return cls(with_url_key(config), secrets.token_hex(8))

    def doors(self, catalog: Catalog) -> dict[str, Application]:
        """Return the applications that hand requests to the models of a catalog, by name."""
        apps = {GATEWAY_APP: gateway_app(self.config, catalog, self.version)}
        if self.config.http_port:
            apps[HTTP_APP] = http_app(self.config, catalog, self.version)
        return apps

    def apps(self) -> dict[str, Application]:
        """Return all applications, by name, those first that others need.

        Raises:
            UserError: a run lacks a model, a file of keys or certificates cannot be used, or traces cannot be sent.
        """
        check_access(self.config)
        check_tracing()
        models = {app_of(name): model_app(self.config, run) for name, run in self.config.runs.items()}
        return models | self.doors(Catalog.of(self.config)) | {ROLLOUT_APP: rollout_app(self)}


def model_app(config: ServeConfig, run: str) -> Application:
    """Return the application of a run's prior, decoder and reranker; nothing is started yet.

    Raises:
        UserError: the run lacks a model, or cannot be read.
    """
    from t2i.serve.replicas.decoder import DecoderReplica  # these import torch, which a gateway does without
    from t2i.serve.replicas.prior import PriorReplica
    from t2i.serve.replicas.reranker import RerankerReplica

    config = ModelConfig.of(config, run, version_of(run))
    decoder = _deployment("decoder", config.decoder, config)(DecoderReplica).bind(config)
    reranker = _deployment("reranker", config.reranker, config)(RerankerReplica).bind(config)
    # An application is one deployment and what it is given: the prior is given the others, and needs none of them.
    app: Application = _deployment("prior", config.prior, config)(PriorReplica).bind(config, decoder, reranker)
    return app


def gateway_app(config: ServeConfig, catalog: Catalog | None = None, version: str = "") -> Application:
    """Return the application of the gateways and, if clients need keys, of ``quotas``; nothing is started yet.

    The models are those of a catalog, by default those of the configuration. They can be changed if it has a
    ``version`` (see :class:`Launched`).
    """
    gateway = serve.deployment(
        name="gateway",
        num_replicas=config.gateways,
        max_replicas_per_node=GATEWAYS_PER_NODE,
        ray_actor_options=_actor(num_cpus=GATEWAY_CPUS),
        graceful_shutdown_timeout_s=config.drain_s + 5,
        health_check_period_s=2.0,
        user_config=(catalog or Catalog.of(config)).user_config(),
    )
    quotas = _one("quotas", config, version)(QuotasReplica).bind() if config.keys else None
    app: Application = _pinned(gateway(Gateway), version).bind(config, quotas=quotas, changeable=bool(version))
    return app


def http_app(config: ServeConfig, catalog: Catalog | None = None, version: str = "") -> Application:
    """Return the application that answers HTTP behind Serve's proxy, and of ``images``; nothing is started yet."""
    from t2i.serve.http.deployment import HttpDoor  # imports FastAPI, which a gateway does without
    from t2i.serve.http.image_store import ImageStore

    door = serve.deployment(
        name="http",
        num_replicas=config.http_replicas,
        max_ongoing_requests=1000,
        ray_actor_options=_actor(num_cpus=GATEWAY_CPUS),
        graceful_shutdown_timeout_s=config.drain_s + 5,
        health_check_period_s=2.0,
        user_config=(catalog or Catalog.of(config)).user_config(),
    )
    images = _one("images", config, version)(ImageStore).bind(config.http_stored_mb << 20)
    config = with_url_key(config)
    app: Application = _pinned(door(serve.ingress()(HttpDoor)), version).bind(config, images)
    return app


def rollout_app(service: Launched) -> Application:
    """Return the application that changes models; it has no replica while there is nothing to do."""
    from t2i.serve.rollout import RolloutReplica  # imports this module

    rollout = serve.deployment(
        name="rollout",
        autoscaling_config={
            "min_replicas": 0,
            "initial_replicas": 0,
            "max_replicas": 1,
            "downscale_delay_s": service.config.drain_s + 60,  # it also ends models that have drained
        },
        max_ongoing_requests=100,
        ray_actor_options=_actor(num_cpus=0),
        health_check_period_s=2.0,
    )
    app: Application = rollout(RolloutReplica).bind(service)
    return app


def gateway(args: dict[str, Any]) -> Application:
    """Build the gateways' application for ``serve deploy``; ``args`` are the fields of :class:`ServeConfig`.

    Raises:
        ConfigError: a field is unknown, of the wrong type or out of its bounds.
        UserError: a file of keys or certificates cannot be used, or traces cannot be sent.
    """
    config = load_mapping(ServeConfig, args)
    check_access(config)
    check_tracing()
    return gateway_app(config)


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
        UserError: the run lacks a model, or cannot be read.
    """
    config = load_mapping(ServeConfig, args)
    return model_app(config, config.run)


def with_url_key(config: ServeConfig) -> ServeConfig:
    """Return settings that have a key for the addresses of images, one for all replicas: a random one if need be."""
    return replace(config, http_url_key=config.http_url_key or secrets.token_hex(32))


def _one(name: str, config: ServeConfig, version: str) -> Any:
    """Return a decorator for the deployment of one replica that keeps something for all doors."""
    deployment = serve.deployment(
        name=name,
        num_replicas=1,
        max_ongoing_requests=1000,
        ray_actor_options=_actor(num_cpus=0),
        graceful_shutdown_timeout_s=config.drain_s + 5,  # a door that drains still needs it
        health_check_period_s=2.0,
    )
    return lambda replica: _pinned(deployment(replica), version)


def _pinned(deployment: Any, version: str) -> Any:
    """Return a deployment that Serve takes for the same code if it is deployed again with this version."""
    return deployment.options(version=version, _internal=True) if version else deployment


def _deployment(name: str, replicas: Any, config: ServeConfig) -> Any:
    # A stage may be asked until the last gateway has drained.
    options = replicas.options()
    options["ray_actor_options"] = _actor(**options["ray_actor_options"])
    return serve.deployment(name=name, graceful_shutdown_timeout_s=config.drain_s + 10, **options)


def _actor(**resources: float) -> dict[str, Any]:
    """Return the options of a replica's actor; it sends traces to where this process would."""
    variables = variables_to_hand_on()
    return {**resources, "runtime_env": {"env_vars": variables}} if variables else dict(resources)
