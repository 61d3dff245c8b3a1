"""Whether a cluster has room for a service: what can never start is refused before anything hangs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ray
from ray._private.state import state as ray_state

from models.errors import UserError
from t2i.logs import get_logger
from t2i.serve.config import GATEWAY_CPUS, GATEWAYS_PER_NODE, ServeConfig

logger = get_logger("serve")


@dataclass(frozen=True)
class Room:
    """What a cluster has: ``nodes``, and its resources by Ray's names; ``grows`` if an autoscaler adds to that."""

    nodes: int
    resources: Mapping[str, float]
    grows: bool = False


def room_of_cluster() -> Room:
    """Return what the cluster has to which this process is connected."""
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    grows = ray_state.get_max_resources_from_cluster_config() is not None
    return Room(nodes, ray.cluster_resources(), grows)


def check_room(config: ServeConfig, room: Room) -> None:
    """Check that all that a service starts with has a place; what others use of the cluster now is not asked.

    On a cluster that grows a warning is logged instead.

    Raises:
        UserError: there is no place; names what is short, and the remedy.
    """
    if (short := shortage(config, room)) is None:
        return
    if not room.grows:
        raise UserError(short)
    logger.warning("%s Waiting for the cluster's autoscaler.", short)


def shortage(config: ServeConfig, room: Room) -> str | None:
    """Return in a sentence what a cluster lacks for a service, None if nothing."""
    if config.gateways > GATEWAYS_PER_NODE * room.nodes:
        has = f"gateways is {config.gateways} and the cluster has {room.nodes} node{'s' * (room.nodes > 1)}"
        return f"{has}: use at most {GATEWAYS_PER_NODE * room.nodes}, or add nodes."
    for name, wanted in needs(config).items():
        if wanted > (has := room.resources.get(name, 0.0)) + 1e-6:
            kind = name.lower() + "s"
            asked = f"the service starts with replicas that reserve {wanted:g} {name}s and the cluster has {has:g}"
            return f"{asked}: use fewer min_replicas, reserve less with prior.{kind}= and the like, or add nodes."
    return None


def needs(config: ServeConfig) -> dict[str, float]:
    """Return the resources that a service reserves at its start, by Ray's names."""
    stages = (config.prior, config.decoder, config.reranker)
    doors = config.gateways + bool(config.http_port)
    cpus = len(config.runs) * sum(stage.initial_replicas * stage.cpus for stage in stages)
    gpus = len(config.runs) * sum(stage.initial_replicas * stage.gpus for stage in stages)
    return {"CPU": cpus + doors * GATEWAY_CPUS, "GPU": gpus}
