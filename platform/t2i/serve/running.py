"""What runs on Serve: applications started side by side, and how far they are."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from ray import serve
from ray.serve import Application, RunTarget
from ray.serve.schema import (  # type: ignore[attr-defined]  # the module does not list them in __all__
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    LoggingConfig,
    ReplicaState,
)

from t2i.serve.catalog import MODEL_APPS
from t2i.serve.names import HTTP_APP

QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)
"""Keeps Serve from logging every call and replica; the gateway logs what a user needs to know."""

POLL_S = 0.1
"""Seconds between two looks at whether an application has ended."""

ROUTES = {HTTP_APP: "/"}
"""The paths of the applications that Serve's HTTP proxy leads to."""


@dataclass(frozen=True)
class AppState:
    """How far an application is.

    Attributes:
        running: its deployments that answer: those with a running replica, and those that a request starts.
        is_ready: whether all have what they should have.
        has_failed: whether Serve has given up starting it, or a replica of it is ill.
        waits_for: what keeps it from being ready, in Serve's words; empty: nothing that is known.
    """

    running: frozenset[str] = frozenset()
    is_ready: bool = False
    has_failed: bool = False
    waits_for: str = ""


def run_apps(apps: Mapping[str, Application], wait: bool = True) -> None:
    """Start applications side by side, or change those that run, and wait for them.

    Raises:
        RuntimeError: one does not start.
    """
    targets = [RunTarget(app, name, route_prefix=ROUTES.get(name), logging_config=QUIET) for name, app in apps.items()]
    serve.run_many(targets, wait_for_applications_running=wait)


def end_app(name: str, wait: bool = True) -> None:
    """End an application; with ``wait`` return when it has: after all that it has begun, or its time for that."""
    serve.delete(name, _blocking=False)  # which otherwise gives up after a minute
    while wait and name in serve.status().applications:
        time.sleep(POLL_S)


def app_states() -> dict[str, AppState]:
    """Return how far the applications are that there are."""
    return {name: _state(application) for name, application in serve.status().applications.items()}


def model_apps() -> list[str]:
    """Return the names of the models' applications."""
    return [name for name in serve.status().applications if name.startswith(MODEL_APPS)]


def _state(application: ApplicationStatusOverview) -> AppState:
    status, deployments = application.status, application.deployments
    running = {name for name, each in deployments.items() if _answers(each)}
    waits_for = next((each.message for name, each in deployments.items() if name not in running and each.message), "")
    return AppState(
        frozenset(running),
        is_ready=status == ApplicationStatus.RUNNING,
        has_failed=status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY),
        waits_for=waits_for.partition("\n")[0],  # what follows is the traceback of a replica
    )


def _answers(deployment: DeploymentStatusOverview) -> bool:
    """Return whether a deployment has a running replica, or none because nobody has asked: a request starts one."""
    # Where it is the autoscaler that has left no replica, the deployment counts as healthy. Were it said not to serve,
    # a load balancer would send it nothing, and it would sleep for ever.
    by_itself = (DeploymentStatus.HEALTHY, DeploymentStatus.UPSCALING, DeploymentStatus.DOWNSCALING)
    return bool(deployment.replica_states.get(ReplicaState.RUNNING)) or deployment.status in by_itself
