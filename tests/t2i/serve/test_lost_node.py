"""A node of the service goes, with all that ran on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from t2i.client import Client
from t2i.serve.launch import launch_service
from tests.processes import descendants
from tests.t2i.serve.soak.service import SoakService, two_of_each, under_load, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.soak]
STAGES = {"prior", "decoder", "reranker"}


class TwoNodes:
    """A head and a second node on this machine; the head has room for everything."""

    def __init__(self) -> None:
        import ray
        from ray.cluster_utils import Cluster

        ray.shutdown()  # what other tests share makes way
        head = {"num_cpus": 4, "include_dashboard": False, "object_store_memory": 300_000_000}
        self._cluster = Cluster(initialize_head=True, connect=True, head_node_args=head)
        self._second = self._cluster.add_node(num_cpus=2, object_store_memory=300_000_000)

    def on_second(self) -> set[str]:
        """The deployments that have a replica on the second node."""
        raylet = self._second.all_processes["raylet"][0].process.pid
        titles = descendants(raylet).values()
        return {found[1] for title in titles if (found := re.match(r"ray::.*\bServeReplica:[^:]+:(\w+)", title))}

    def lose_second(self) -> None:
        """Kill all that runs on the second node at once."""
        self._cluster.remove_node(self._second, allow_graceful=False)

    def close(self) -> None:
        import ray
        from ray import serve

        serve.shutdown()
        ray.shutdown()
        self._cluster.shutdown()


@pytest.fixture
def nodes() -> Iterator[TwoNodes]:
    nodes = TwoNodes()
    yield nodes
    nodes.close()


@pytest.fixture
def service(nodes: TwoNodes, run_directory: Path) -> Iterator[SoakService]:
    """Two replicas of every stage, which Serve spreads over both nodes, and the images that they make."""
    with launch_service(two_of_each(run_directory)) as address, Client(address) as client:
        wait_until(client.is_serving)
        wait_until(lambda: nodes.on_second() >= STAGES)
        service = SoakService(address, "", run_directory)
        service.known.update(service.learn(client))
        yield service


def test_a_lost_node_is_not_noticed(nodes: TwoNodes, service: SoakService) -> None:
    with under_load(service) as answers:
        answers.wait_for(4)
        nodes.lose_second()
        answers.wait_for(20)
    assert not answers.lost
