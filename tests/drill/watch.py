"""Looks at the cluster once a second, from outside: at its processes, whoever of them may be lost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

from tests.cluster.cluster import Cluster
from tests.cluster.service import replicas
from tests.drill.timeline import Sample, Timeline

EVERY_S = 1.0


@contextmanager
def watched(cluster: Cluster, timeline: Timeline) -> Iterator[None]:
    """Take samples while the block runs."""
    ending = threading.Event()

    def watch() -> None:
        while not ending.wait(EVERY_S):
            timeline.samples.append(sample(cluster, timeline.now()))

    thread = threading.Thread(target=watch, name="watch")
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def sample(cluster: Cluster, now: float) -> Sample:
    """Return what runs now."""
    nodes = cluster.nodes()
    types = Counter(machine.tags[TAG_RAY_USER_NODE_TYPE] for machine in nodes)
    running = Counter(replicas(nodes).values())
    return Sample(now, dict(types), dict(running), cluster.head in cluster.machines.running())
