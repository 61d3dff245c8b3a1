"""Run a service on the Ray cluster that this process is connected to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ray import serve
from ray.serve import Application
from ray.serve.schema import LoggingConfig

from models.errors import UserError
from t2i.serve.app import build_app
from t2i.serve.config import ServeConfig

APP = "t2i"
QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)
"""Keeps Serve from logging every call and replica; the gateway logs what a user needs to know."""


@contextmanager
def launch_service(config: ServeConfig) -> Iterator[str]:
    """Serve ``config.run`` until the block ends; yields the gateway's address as ``host:port``.

    Raises:
        UserError: the run directory lacks a model, or a deployment does not start.
    """
    app = build_app(config)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(proxy_location="Disabled", logging_config=QUIET)
    try:
        yield _deploy(app)
    finally:
        serve.delete(APP)  # not serve.shutdown(), which would end other people's applications on a shared cluster


def _deploy(app: Application) -> str:
    """Start the deployments, wait for them, and return the gateway's address."""
    try:
        address: str = serve.run(app, name=APP, route_prefix=None, logging_config=QUIET).address.remote().result()
    except RuntimeError as error:
        raise UserError(f"the service did not start, see the log above: {str(error).splitlines()[0]}") from error
    return address
