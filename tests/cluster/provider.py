"""The cloud of a cluster on this machine: Ray's autoscaler asks it for machines, and gives them back.

Ray's own provider of fake nodes keeps them in the memory of the autoscaler, and they end with the head. These stay.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

from tests.cluster.machines import Machine, Machines

NODE_GROUP = "ray.io/node-group"
"""The label by which Ray tells a node's type."""

HEAD = "ray.head.default"
HEAD_TAGS = {TAG_RAY_NODE_KIND: NODE_KIND_HEAD, TAG_RAY_USER_NODE_TYPE: HEAD}
WANTED_KEYS = ("setup_commands", "head_setup_commands", "worker_setup_commands", "cluster_synced_files")
"""What Ray asks for in the configuration of a provider that it does not know."""

OBJECT_STORE = 150_000_000


class MachineProvider(NodeProvider):
    """Hands out machines of its configuration's folder ``machines``, which join the cluster at ``gcs_address``."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._machines = Machines(Path(provider_config["machines"]))
        self._address = provider_config["gcs_address"]

    def non_terminated_nodes(self, tag_filters: Mapping[str, str]) -> list[str]:
        """Return the names of the machines that have these tags."""
        return [name for name, machine in self._all().items() if tag_filters.items() <= machine.tags.items()]

    def is_running(self, node_id: str) -> bool:
        """Return whether a machine runs."""
        return node_id in self._all()

    def is_terminated(self, node_id: str) -> bool:
        """Return whether a machine does not run."""
        return not self.is_running(node_id)

    def node_tags(self, node_id: str) -> dict[str, str]:
        """Return what the autoscaler has noted of a machine."""
        return self._all()[node_id].tags

    def create_node_with_resources_and_labels(
        self,
        node_config: Mapping[str, Any],  # noqa: ARG002  the names that the autoscaler takes
        tags: Mapping[str, str],
        count: int,
        resources: Mapping[str, float],
        labels: Mapping[str, str],  # noqa: ARG002
    ) -> None:
        """Start machines."""
        for _ in range(count):
            start_node(self._machines, self._address, int(resources["CPU"]), tags, os.environ)

    def terminate_node(self, node_id: str) -> None:
        """End a machine."""
        self._machines.kill(self._all()[node_id])

    def _all(self) -> dict[str, Machine]:
        return {machine.name: machine for machine in self._machines.running()}


def start_node(
    machines: Machines, address: str, cpus: int, tags: Mapping[str, str], environment: Mapping[str, str]
) -> Machine:
    """Start a machine that joins a cluster."""
    sizes = [f"--num-cpus={cpus}", f"--object-store-memory={OBJECT_STORE}"]
    ports = ["--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"]
    # Of its own: nodes that start in the same moment would want the same socket in a folder that they share.
    folder = f"--temp-dir={machines.folder.parent / secrets.token_hex(3)}"  # the names of sockets have to be short
    words = ["ray", "start", "--block", "--disable-usage-stats", f"--address={address}", folder, *sizes, *ports]
    kind = {"RAY_NODE_TYPE_NAME": tags.get(TAG_RAY_USER_NODE_TYPE, "")}
    return machines.start(words, {**environment, **kind}, tags)


def autoscaler_config(
    machines: Path, address: str, node_types: Mapping[str, Mapping[str, Any]], idle_s: float
) -> dict[str, Any]:
    """Return the configuration of an autoscaler that gets its nodes from here.

    ``node_types`` are those that it may start: by name ``resources``, ``min_workers`` and ``max_workers``.
    """
    types = {HEAD: {"resources": {"CPU": 0}, "max_workers": 0}, **node_types}
    provider = {
        "type": "external",
        "module": f"{__name__}.{MachineProvider.__name__}",
        "disable_node_updaters": True,  # Ray is installed on these machines
        "machines": str(machines),
        "gcs_address": address,
    }
    return {
        "cluster_name": "test",
        "max_workers": sum(each["max_workers"] for each in types.values()),
        "idle_timeout_minutes": idle_s / 60,
        "provider": provider,
        "head_node_type": HEAD,
        "available_node_types": {
            name: {"node_config": {}, "labels": {NODE_GROUP: name}, **each} for name, each in types.items()
        },
        **{key: [] for key in WANTED_KEYS},
    }
