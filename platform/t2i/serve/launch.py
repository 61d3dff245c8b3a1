"""Run a service on the Ray cluster that this process is connected to."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from ray import serve
from ray.serve import RunTarget
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

from models.errors import UserError
from t2i.serve.app import GATEWAY_APP, HTTP_APP, gateway_app, http_app, model_app
from t2i.serve.config import ServeConfig
from t2i.serve.models import app_of

ROUTES = {HTTP_APP: "/"}
"""The paths of the applications that Serve's HTTP proxy leads to."""


@contextmanager
def launch_service(config: ServeConfig) -> Iterator[str]:
    """Serve the configuration's models until the block ends; yields the gateways' address as ``host:port``.

    At the end the gateways finish what they have begun, for at most ``drain_s`` seconds, and then the models stop.

    Raises:
        UserError: a run directory lacks a model, or a deployment does not start.
    """
    config = replace(config, port=config.port or free_port(config))
    apps = {app_of(name): model_app(config, run) for name, run in config.runs.items()}
    apps[GATEWAY_APP] = gateway_app(config)
    if config.http_port:
        apps[HTTP_APP] = http_app(config)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    _start_serve(config)
    try:
        _deploy(
            [
                RunTarget(app, name, route_prefix=ROUTES.get(name), logging_config=quiet(config))
                for name, app in apps.items()
            ]
        )
        yield config.address(config.port)
    finally:
        for name in reversed(apps):  # not serve.shutdown(), which would end other people's applications
            serve.delete(name)


def quiet(config: ServeConfig) -> LoggingConfig:
    """Return what keeps Serve from logging every call and replica; gateways log what a user needs to know."""
    return LoggingConfig(encoding=config.log_format.upper(), log_level="WARNING", enable_access_log=False)


def _start_serve(config: ServeConfig) -> None:
    """Start Serve, with its HTTP proxy if there is a port for it."""
    if config.http_port:
        certificate, key = config.tls.certificate, config.tls.key
        options = HTTPOptions(host=config.host, port=config.http_port, ssl_certfile=certificate, ssl_keyfile=key)
        serve.start(proxy_location="EveryNode", http_options=options, logging_config=quiet(config))
    else:
        serve.start(proxy_location="Disabled", logging_config=quiet(config))


def free_port(config: ServeConfig) -> int:
    """Return a free port of the address to listen on: gateways that are replaced must find the same one again."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with closing(socket.create_server((config.host, 0), family=family)) as server:
        port: int = server.getsockname()[1]
        return port


def _deploy(targets: list[RunTarget]) -> None:
    """Start all applications side by side, and wait for them."""
    try:
        serve.run_many(targets)
    except RuntimeError as error:
        raise UserError(f"the service did not start, see the log above: {str(error).splitlines()[0]}") from error
