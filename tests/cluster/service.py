"""The service on a cluster, deployed as its operator does, and what is seen of it from outside."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from t2i.serve.catalog import app_of
from t2i.serve.config import GATEWAY_CPUS, ServeConfig, name_of
from t2i.serve.names import GATEWAY_APP
from tests.cluster.cluster import Cluster
from tests.cluster.machines import Machine
from tests.cluster.provider import NODE_GROUP

APPLICATIONS = "/api/serve/applications/"


def deploy(cluster: Cluster, config: ServeConfig, group: str = "") -> str:
    """Do as ``serve deploy`` does with gateways and a model, and return the gateways' address.

    With ``group`` all but the prior is placed on nodes of this type, as the overlays place gateways.
    """
    args = {name: value for name, value in asdict(config).items() if value not in ("", None)}
    apps = {GATEWAY_APP: "gateway", app_of(name_of(config.run)): "model"}
    applications: list[dict[str, Any]] = [
        {"name": name, "route_prefix": None, "import_path": f"t2i.serve.app:{builder}", "args": args}
        for name, builder in apps.items()
    ]
    if group:
        gateways, model = applications
        gateways["deployments"] = [_placed("gateway", GATEWAY_CPUS, group)]
        stages = {"decoder": config.decoder, "reranker": config.reranker}
        model["deployments"] = [_placed(name, stage.cpus, group) for name, stage in stages.items()]
    cluster.ask(APPLICATIONS, {"proxy_location": "Disabled", "applications": applications}, "PUT")
    return config.address(config.port)


def _placed(name: str, cpus: float, group: str) -> dict[str, Any]:
    return {"name": name, "ray_actor_options": {"num_cpus": cpus, "label_selector": {NODE_GROUP: group}}}


def answering(cluster: Cluster) -> Counter[str]:
    """How many replicas of each deployment are ready, by Serve's controller; empty while it cannot be asked."""
    found: Counter[str] = Counter()
    with suppress(OSError):
        for application in cluster.ask(APPLICATIONS)["applications"].values():
            assert application["status"] != "DEPLOY_FAILED", application["message"]
            for name, deployment in application["deployments"].items():
                found[name] += sum(replica["state"] == "RUNNING" for replica in deployment["replicas"])
    return found


def replicas(machines: list[Machine]) -> dict[int, str]:
    """The replicas' processes on some machines, and which deployment each is of; whoever may be lost."""
    commands = {pid: command for machine in machines for pid, command in machine.commands().items()}
    titled = {pid: re.match(r"ray::.*\bServeReplica:[^:]+:(\w+)", command) for pid, command in commands.items()}
    return {pid: title[1] for pid, title in titled.items() if title}
