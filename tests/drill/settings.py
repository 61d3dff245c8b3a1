"""How large the drill's cluster and service are."""

from __future__ import annotations

from typing import Any

from t2i.serve.config import PriorReplicaConfig, ReplicaConfig, ServeConfig
from tests.t2i.storage.seaweed import free_ports

CORE, BURST, BATCH = "core", "burst", "batch"
NODE_TYPES: dict[str, dict[str, Any]] = {
    CORE: {"resources": {"CPU": 1}, "min_workers": 2, "max_workers": 4},
    BURST: {"resources": {"CPU": 6}, "max_workers": 3},
    BATCH: {"resources": {"CPU": 4}, "max_workers": 3},
}
"""Nodes for all of the service but the prior, two of which are always there; for the prior, for which those of jobs are
too small, as they would be without a GPU; and for jobs."""

PAIR = {"gateway": 2, "decoder": 2, "reranker": 2}
"""What has two replicas, whatever the load."""

IDLE_S = 15.0
"""After how long a node, and the prior's last replica, are given back if nothing needs them."""


def service(run: str) -> ServeConfig:
    """Return the settings of the service; its prior comes and goes with the load."""
    prior = PriorReplicaConfig(
        dtype="bfloat16", slots=16, threads=1, cpus=6, min_replicas=0, max_replicas=2, idle_s=IDLE_S
    )
    pair = ReplicaConfig(min_replicas=2, max_replicas=2, cpus=0.25)
    return ServeConfig(run, port=free_ports(1)[0], prior=prior, decoder=pair, reranker=pair, drain_s=10.0)
