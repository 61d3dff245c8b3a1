"""A service on a cluster that grows, shrinks, and loses nodes and its head, while clients compare every byte."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from t2i.client import Client
from t2i.serve.config import PriorReplicaConfig, ReplicaConfig, ServeConfig
from tests import waiting
from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.machines import Machine
from tests.cluster.service import answering, deploy, replicas
from tests.soak import scaled
from tests.t2i.serve.soak.service import SoakService, under_load
from tests.t2i.storage.seaweed import free_ports

wait_until = partial(waiting.wait_until, limit_s=1800.0)

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.drill, pytest.mark.timeout(3600)]

CORE, BURST = "core", "burst"
NODE_TYPES: dict[str, dict[str, Any]] = {
    CORE: {"resources": {"CPU": 1}, "min_workers": 2, "max_workers": 4},
    BURST: {"resources": {"CPU": 2}, "max_workers": 2},
}
"""Nodes for all but the prior, of which two are always there; and nodes for the prior, which come with load."""

PAIR = {"gateway": 2, "decoder": 2, "reranker": 2}
"""What has two replicas, whatever the load."""


def config(run: Path) -> ServeConfig:
    prior = PriorReplicaConfig(dtype="float32", slots=2, threads=1, cpus=2, min_replicas=0, max_replicas=2, idle_s=3)
    pair = ReplicaConfig(min_replicas=2, max_replicas=2, cpus=0.25)
    return ServeConfig(str(run), port=free_ports(1)[0], prior=prior, decoder=pair, reranker=pair, drain_s=1.0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(node_types=NODE_TYPES, idle_s=5) as cluster:
        wait_until(lambda: len(cluster.alive()) == 1 + NODE_TYPES[CORE]["min_workers"])
        yield cluster


@pytest.fixture(scope="module")
def service(cluster: Cluster, run_directory: Path) -> SoakService:
    """The service, and the images that it makes before anything has happened to it."""
    service = SoakService(deploy(cluster, config(run_directory)), "", run_directory)
    wait_until(lambda: answering(cluster) >= Counter(PAIR))
    with Client(service.grpc) as client:
        service.known.update(service.learn(client))
    return service


def of_type(cluster: Cluster, kind: str) -> list[Machine]:
    """The nodes of one type."""
    return [machine for machine in cluster.nodes() if machine.tags.get("ray-user-node-type") == kind]


def lose_a_decoder(cluster: Cluster) -> None:
    """Kill a replica, and wait until there is another in its place."""
    before = replicas(cluster.nodes())
    os.kill(next(pid for pid, name in before.items() if name == "decoder"), signal.SIGKILL)
    wait_until(lambda: "decoder" in dict(replicas(cluster.nodes()).items() - before.items()).values())
    wait_until(lambda: answering(cluster) >= Counter(PAIR))


def test_nodes_and_replicas_follow_the_load(cluster: Cluster, service: SoakService) -> None:
    with under_load(service, clients=6) as answers:
        wait_until(lambda: answering(cluster)["prior"] == 2)
        assert len(of_type(cluster, BURST)) == 2
        answers.wait_for(4)
    wait_until(lambda: not of_type(cluster, BURST))
    assert answering(cluster) == Counter(PAIR)
    assert len(of_type(cluster, CORE)) == 2
    assert not answers.lost


def test_another_head_goes_on_where_the_killed_one_was(cluster: Cluster, service: SoakService) -> None:
    """And the service answers while there is none; the prior's replicas and nodes are started from nothing."""
    with under_load(service) as answers:
        answers.wait_for(4)
        for _ in range(scaled(4)):
            before = replicas(cluster.nodes())
            cluster.machines.kill(cluster.head)
            answers.wait_for(12)
            assert not cluster.is_controlled()
            cluster.start_head()
            wait_until(lambda: answering(cluster) >= Counter(PAIR))
            assert before.items() <= replicas(cluster.nodes()).items()
            lose_a_decoder(cluster)
        answers.wait_for(4)
    assert not answers.lost


def test_a_node_that_is_about_to_end_is_replaced_before(cluster: Cluster, service: SoakService) -> None:
    with under_load(service) as answers:
        for _ in range(scaled(4)):
            answers.wait_for(4)
            drained = of_type(cluster, CORE)[0]
            cluster.drain(drained, deadline_s=600)
            while replicas([drained]):
                counts = Counter(replicas(cluster.nodes()).values())
                assert counts >= Counter(PAIR), "a replica stopped before another was there"
                time.sleep(0.2)
            cluster.machines.kill(drained)
            wait_until(lambda: answering(cluster) >= Counter(PAIR))
        answers.wait_for(4)
    assert not answers.lost
