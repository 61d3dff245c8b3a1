"""Whether a cluster has room for a service: what can never start is refused before anything hangs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import ray
from ray._private.state import state as ray_state

from models.errors import UserError
from t2i.logs import get_logger
from t2i.serve.config import GATEWAY_CPUS, GATEWAYS_PER_NODE, ServeConfig

TOLERANCE = 1e-6
"""Of sums of logical CPUs such as 0.1."""

logger = get_logger("serve")


@dataclass(frozen=True)
class Room:
    """What a cluster has: ``nodes``, resources by Ray's names, and the ``most`` of them that an autoscaler brings."""

    nodes: int
    resources: Mapping[str, float]
    most: Mapping[str, float] = field(default_factory=dict)


def room_of_cluster() -> Room:
    """Return what the cluster has to which this process is connected."""
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())  # type: ignore[no-untyped-call]  # Ray's
    most = ray_state.get_max_resources_from_cluster_config() or {}
    return Room(nodes, ray.cluster_resources(), most)  # type: ignore[no-untyped-call]  # Ray's


def check_room(config: ServeConfig, room: Room) -> None:
    """Check that all that a service starts with has a place; what others use of the cluster now is not asked.

    Where the cluster's autoscaler may bring what lacks, a warning is logged instead.

    Raises:
        UserError: there is no place; names what is short, and the remedy.
    """
    wanted = needs(config)
    for name, count in wanted.items():
        if (has := room.resources.get(name, 0.0)) + TOLERANCE >= count:
            continue
        short = f"the service starts with replicas that reserve {count:g} {name}s and the cluster has {has:g}"
        if room.most.get(name, 0.0) < count:
            remedy = f"use fewer min_replicas, reserve less with prior.{name.lower()}s= and the like, or add nodes"
            raise UserError(f"{short}: {remedy}.")
        logger.warning("%s: it waits for the cluster's autoscaler.", short)
    if not room.most and config.gateways > (places := GATEWAYS_PER_NODE * room.nodes):
        raise UserError(f"gateways is {config.gateways} and each node has {GATEWAYS_PER_NODE}: use at most {places}.")


def needs(config: ServeConfig) -> dict[str, float]:
    """Return the resources that a service reserves at its start, by Ray's names."""
    stages = (config.prior, config.decoder, config.reranker)
    doors = config.gateways + (config.http_replicas if config.http_port else 0)
    cpus = len(config.runs) * sum(stage.initial_replicas * stage.cpus for stage in stages)
    gpus = len(config.runs) * sum(stage.initial_replicas * stage.gpus for stage in stages)
    return {"CPU": cpus + doors * GATEWAY_CPUS, "GPU": gpus}
