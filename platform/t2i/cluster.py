"""Start or join a Ray cluster on which every worker imports this code."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from typing import Any

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray.data import DataContext
from ray.exceptions import AuthenticationError, RayError

from models.errors import UserError
from models.settings import setting
from t2i.config import ROOT
from t2i.lost_node import exit_when_lost
from t2i.native_stderr import hide_known_lines

ANSWER_S = 10.0
"""Seconds in which a cluster has to answer; Ray itself would wait for minutes where something else listens."""

FIRST_QUESTION = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""The RPC that a driver calls first, with an empty request."""

WANTS_TOKEN = (
    "asks for a token, and has refused this one or none: put what `ray get-auth-token` prints at its head into "
    "RAY_AUTH_TOKEN, and set RAY_AUTH_MODE=token."
)

STARTS_TOO_SLOWLY = "timed out during startup"
"""What Ray says of a start that has taken it more than 30 seconds."""

STORES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "FSSPEC_S3_ANON",
    "T2I_MODEL_STORE",
)
"""Variables that say where stores are, which workers get from the driver; credentials they have of their own."""

DATA = ["/jobs/datasets", "/models/trained"]
"""What a driver that joins a cluster need not upload: it names data by absolute paths."""


@dataclass
class RayConfig:
    """Which Ray cluster a job joins, or how much of this machine a local Ray may use."""

    address: str | None = setting(
        None, "address of a running cluster; empty: the one in RAY_ADDRESS, else a local Ray is started"
    )
    cpus: int | None = setting(None, "logical CPUs of a local Ray; empty: all", at_least=1)
    object_store_gb: float = setting(1.0, "shared memory of a local Ray, in GB", at_least=0.1)


def start_ray(config: RayConfig) -> None:
    """Join the cluster, or start one on this machine; do nothing if Ray is already initialised.

    Raises:
        UserError: there is no Ray at the address, or it refuses this process, or none starts here.
    """
    if ray.is_initialized():
        return
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    hide_known_lines()
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # says at every start that tokens are on
    try:
        if address == "local":
            _start_local(config)
        else:
            _join(address, "ray.address" if config.address else "RAY_ADDRESS")
    except AuthenticationError as error:
        raise UserError(f"Ray at {address} {WANTS_TOKEN}") from error
    if not address.startswith("ray://"):  # a client's node is not its own
        exit_when_lost()
    context = DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    context.use_datasource_v2 = address != "local"  # on a local Ray it would start 32 actors to read footers
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _init(address: str, **options: Any) -> None:
    environment = runtime_env(joins=address != "local")
    ray.init(address=address, runtime_env=environment, logging_level=logging.WARNING, **options)


def _start_local(config: RayConfig) -> None:
    """Start a Ray on this machine, with a second try on one that is too busy for Ray's 30 seconds."""
    for attempt in range(2):
        try:
            return _init("local", **_local_resources(config))
        except Exception as error:  # Ray raises nothing narrower
            if STARTS_TOO_SLOWLY not in str(error):
                raise
            ray.shutdown()
            if attempt:
                remedy = "end what keeps this machine busy, or see its logs in /tmp/ray/session_latest/logs."
                raise UserError(f"Ray did not start in time, twice: {remedy}") from error


def _local_resources(config: RayConfig) -> dict[str, Any]:
    return {
        "num_cpus": config.cpus,
        "object_store_memory": int(config.object_store_gb * 1e9),
        "include_dashboard": False,
    }


def _join(address: str, name: str) -> None:
    """Join the cluster at ``address``, which the setting or variable ``name`` gave."""
    os.environ["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"  # PYTHONPATH is added to the job's, which Ray refuses otherwise
    try:
        if address != "auto" and not address.startswith("ray://"):
            _check_address(address, name)
        _init(address)
    except AuthenticationError:
        raise
    except (RayError, ConnectionError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{name} is {address}, and Ray could not join it ({reason}): correct or unset it.") from error


def _check_address(address: str, name: str) -> None:
    """Raise UserError if ``address`` is no cluster's, or no Ray answers there; AuthenticationError if it wants a token.

    Ray itself tries for a minute, and does not say then that it was for want of a token.
    """
    if address.startswith(("http://", "https://")):
        raise UserError(
            f"{name} is {address}, a dashboard's address, which is for RAY_API_SERVER_ADDRESS: "
            "use the head's host:port (6379 by default), or unset it."
        )
    with init_grpc_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(FIRST_QUESTION)(b"", timeout=ANSWER_S)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                raise AuthenticationError(str(error.details())) from error
            reason = error.code().name.lower().replace("_", " ")
            raise UserError(f"{name} is {address}, where no Ray answers ({reason}): correct or unset it.") from error


def runtime_env(joins: bool) -> dict[str, Any]:
    """Return how workers get this code, for ``ray.init``; ``joins`` tells a running cluster from a local Ray.

    ::

        this code is in                            workers take it from
        a submitted job's working directory        their own copy of that directory, by relative source roots
        a checkout whose driver joins a cluster    a copy that is uploaded without data (.rayignore, DATA)
        a checkout on a local Ray, or in an image  the same folder: an image has it on every node
        an installed package                       the package
    """
    if not (ROOT / "platform" / "t2i").is_dir():
        return {}
    uploaded = joins and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ
    copied = uploaded or ROOT.parent.name == "working_dir_files"
    roots = ["platform", "."] if copied else [str(ROOT / "platform"), str(ROOT)]
    given = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path and path not in roots]
    stores = {name: os.environ[name] for name in STORES if name in os.environ}
    environment: dict[str, Any] = {"env_vars": {"PYTHONPATH": ":".join(roots + given)} | stores}
    return environment | ({"working_dir": str(ROOT), "excludes": DATA} if uploaded else {})
