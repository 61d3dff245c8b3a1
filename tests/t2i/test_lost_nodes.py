"""Nodes killed and added while jobs encode, train and evaluate from and to a store: not one bit differs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.jobs import Job, Sizes, chain, write_inputs
from tests.cluster.machines import Machine
from tests.conftest import StartProcess
from tests.soak import scaled
from tests.waiting import wait_until

LOSSES = scaled(4)
"""Nodes that are lost under each job."""

Start = Callable[[Job], subprocess.Popen[str]]


@pytest.fixture
def cluster(bucket: str) -> Iterator[Cluster]:  # noqa: ARG001  it sets AWS_ENDPOINT_URL
    """A head without work, and two nodes."""
    with running_cluster() as cluster:
        for _ in range(2):
            cluster.add_node(cpus=2)
        yield cluster


@pytest.fixture
def jobs(bucket: str, tmp_path: Path) -> list[tuple[Job, Job]]:
    """The same jobs in two runs, of which one is left in peace."""
    write_inputs(bucket, tmp_path / "models")
    return list(zip(*(chain(bucket, tmp_path / "models", run, Sizes()) for run in ("quiet", "disturbed")), strict=True))


@pytest.fixture
def start(cluster: Cluster, start_process: StartProcess, tmp_path: Path) -> Start:
    """Start a job as a user of the cluster does."""

    def start(job: Job) -> subprocess.Popen[str]:
        with (tmp_path / job.name).open("a") as log:
            words = [sys.executable, f"jobs/{job.name}.py", *job.words]
            return start_process(words, env=cluster.user, stdout=log, stderr=log)

    return start


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_lost_nodes_change_no_result(
    cluster: Cluster, jobs: list[tuple[Job, Job]], start: Start, tmp_path: Path
) -> None:
    for quiet, disturbed in jobs:
        assert start(quiet).wait(timeout=900) == 0, (tmp_path / quiet.name).read_text()
        process = start(disturbed)
        for losses in range(LOSSES):
            assert still_works(disturbed, process, losses), (tmp_path / quiet.name).read_text()
            cluster.machines.kill(busiest(cluster))
            cluster.add_node(cpus=2)
        assert process.wait(timeout=900) == 0, (tmp_path / quiet.name).read_text()
        assert disturbed.result() == quiet.result()


def still_works(job: Job, process: subprocess.Popen[str], pieces: int) -> bool:
    """Whether a job has not ended when it has finished more than some pieces."""
    wait_until(lambda: job.finished() > pieces or process.poll() is not None, limit_s=600)
    return process.poll() is None


def busiest(cluster: Cluster) -> Machine:
    """The node on which most processes work for a job."""

    def working(node: Machine) -> int:
        return sum("MapWorker" in title or "RayTrainWorker" in title for title in node.commands().values())

    return max(cluster.nodes(), key=working)
