"""Run a service on the Ray cluster that this process is connected to."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace

from ray import serve
from ray.serve import Application
from ray.serve.config import HTTPOptions

from models.errors import UserError
from t2i.serve.app import Launched
from t2i.serve.catalog import MODEL_APPS
from t2i.serve.config import ServeConfig
from t2i.serve.room import check_room, room_of_cluster
from t2i.serve.running import QUIET, end_app, model_apps, run_apps


@contextmanager
def launch_service(config: ServeConfig) -> Iterator[str]:
    """Serve the configuration's models until the block ends; yields the gateways' address as ``host:port``.

    At the end the gateways finish what they have begun, for at most ``drain_s`` seconds, and then the models stop.

    Raises:
        UserError: a run lacks a model, the cluster has no room, or a deployment does not start.
    """
    config = replace(config, port=config.port or free_port(config))
    apps = Launched.of(config).apps()
    check_room(config, room_of_cluster())
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    _start_serve(config)
    is_ready = False
    try:
        _deploy(apps)
        is_ready = True
        yield config.address(config.port)
    finally:
        _end(apps, wait=is_ready)


def _end(apps: Mapping[str, Application], wait: bool) -> None:
    """End the doors, then the models, which may be others than at the start.

    Those of a service that was not ready are not waited for: they have begun nothing, and may be loading for long.
    """
    # Not serve.shutdown(), which would end other people's applications.
    for name in reversed(list(apps)):
        if not name.startswith(MODEL_APPS):
            end_app(name, wait)
    for name in model_apps():
        end_app(name, wait)


def _start_serve(config: ServeConfig) -> None:
    """Start Serve, with its HTTP proxy if there is a port for it."""
    if config.http_port:
        certificate, key = config.tls.certificate, config.tls.key
        options = HTTPOptions(host=config.host, port=config.http_port, ssl_certfile=certificate, ssl_keyfile=key)
        serve.start(proxy_location="EveryNode", http_options=options, logging_config=QUIET)
    else:
        serve.start(proxy_location="Disabled", logging_config=QUIET)


def free_port(config: ServeConfig) -> int:
    """Return a free port of the address to listen on: gateways that are replaced must find the same one again."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with closing(socket.create_server((config.host, 0), family=family)) as server:
        port: int = server.getsockname()[1]
        return port


def _deploy(apps: Mapping[str, Application]) -> None:
    """Start all applications side by side, and wait for them."""
    try:
        run_apps(apps)
    except RuntimeError as error:
        raise UserError(f"the service did not start, see the log above: {str(error).splitlines()[0]}") from error
