"""The README's lines for a cluster, as they stand there: two nodes, a store, and a user at another machine's prompt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pyarrow.parquet as pq
import pytest
import ray

from models.run_layout import RunLayout
from t2i.storage import filesystem_for, put_directory, read_file, write_file
from t2i.train.checkpoint.run_directory import RunDirectory
from tests.commands import commands
from tests.processes import running
from tests.submitted import submit
from tests.t2i.train.tiny import free_port

BIN = Path(sys.executable).parent
SMALLER = {
    "train_prior": ["train.steps=2", "train.batch_size=8", "train.precision=fp32", "task.model.layers=2"],
    "coco_eval": ["captions=20", "candidates=2", "shown=2", "extract.actors=1", "generate.cpus=3"],
}
"""Words added to a job's line: little work, and generators so large that each node has one."""


@dataclass(frozen=True)
class Cluster:
    """Where the dashboard is, and the token that lets a user in."""

    dashboard: str
    token: str


def machine(home: Path) -> dict[str, str]:
    """The environment on a machine whose home directory is ``home`` and whose Python is this one."""
    home.mkdir()
    return {"HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}


def let_in(token: str) -> dict[str, str]:
    """What the README says to set on all machines but the one where the token lies."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}


@pytest.fixture
def cluster(bucket: str, tmp_path: Path) -> Iterator[Cluster]:  # noqa: ARG001  it sets AWS_ENDPOINT_URL
    """A head and a second node, which both know where the store is, and its credentials.

    The Ray that the other tests share makes way: its processes and these would not find their own head.
    """
    ray.shutdown()
    store = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    head, second = machine(tmp_path / "head") | store, machine(tmp_path / "second") | store
    command = ["ray", "get-auth-token", "--generate"]
    token = subprocess.run(command, env=head, capture_output=True, text=True, check=True).stdout.split()[-1]
    port, dashboard, client = free_port(), free_port(), free_port()
    words = ["--head", f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    with ExitStack() as stack:
        stack.enter_context(node(tmp_path / "head.log", words, head))
        stack.enter_context(node(tmp_path / "second.log", [f"--address=127.0.0.1:{port}"], second | let_in(token)))
        yield Cluster(f"http://127.0.0.1:{dashboard}", token)


@contextmanager
def node(log: Path, words: list[str], environment: dict[str, str]) -> Iterator[None]:
    """``ray start``, until it has started; of four CPUs, so that two nodes have room for the README's eight workers."""
    ports = [f"--dashboard-agent-listen-port={free_port()}"]  # 52365 would be the other node's, too
    sizes = ["--num-cpus=4", "--object-store-memory=300000000"]
    command = ["ray", "start", "--block", "--disable-usage-stats", *ports, *sizes, *words]
    with log.open("w") as file, running(command, env=environment, stdout=file, stderr=file) as process:
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> dict[str, str]:
    """The environment of a user on a third machine, who was given the token, and no credentials of the store."""
    return machine(tmp_path / "user") | let_in(cluster.token)


@pytest.fixture
def lines(cluster: Cluster, bucket: str) -> dict[str, str]:
    """The README's lines by job, each below its ``export``, with this cluster's and this store's addresses."""
    export, *found = [line for line in commands("README.md") if line.startswith(("export RAY_API", "ray job submit -"))]
    export = export.replace("http://head:8265", cluster.dashboard)
    here = [f"{export}\n{line.replace('s3://bucket', bucket)}" for line in found]
    return {job: " ".join([line, *SMALLER[job]]) for job in SMALLER for line in here if job in line}


def put_run(run: str, pairs: str, folder: Path) -> None:
    """Put the shipped models but the prior into a run in the store, and 24 captioned images at ``pairs``."""
    for name, directory in RunLayout("models/trained/small").models.items():
        if name != "prior":
            put_directory(directory, RunLayout(run).models[name])
    pq.write_table(pq.read_table("jobs/datasets/emoji64/val.parquet").slice(0, 24), folder / "pairs.parquet")
    write_file(*filesystem_for(pairs), (folder / "pairs.parquet").read_bytes())


def type_line(line: str, user: dict[str, str]) -> None:
    assert "succeeded" in submit(["bash", "-c", line], env=user)


def nodes_of_actors(cluster: Cluster, user: dict[str, str]) -> dict[str, set[str]]:
    """The nodes on which actors of each class have run, by the record that Ray keeps of them."""
    words = ["ray", "list", "actors", f"--address={cluster.dashboard}", "--format=json", "--limit=1000"]
    listed = subprocess.run(words, env=user, capture_output=True, text=True, check=True).stdout
    nodes: dict[str, set[str]] = defaultdict(set)
    for actor in json.loads(listed):
        nodes[actor["class_name"]].add(actor["node_id"])
    return nodes


@pytest.mark.ray
@pytest.mark.documents
@pytest.mark.timeout(2400)
def test_the_lines_for_a_cluster_train_and_evaluate_from_and_to_a_store(
    cluster: Cluster, user: dict[str, str], lines: dict[str, str], bucket: str, tmp_path: Path
) -> None:
    with pytest.raises(HTTPError, match="401"):  # as the README says of a machine without the token
        urlopen(f"{cluster.dashboard}/api/jobs/")
    run, pairs = f"{bucket}/runs/small", f"{bucket}/pairs.parquet"
    put_run(run, pairs, tmp_path)
    encode = f"jobs/encode_images.py run={run} image_size=64 data.train.path={pairs} data.val.path={pairs}"
    type_line(lines["train_prior"].partition("jobs/")[0] + encode, user)

    type_line(lines["train_prior"], user)
    trained = RunDirectory(f"{run}/prior")
    assert trained.checkpoints.names() == ["step_0000002"]
    assert trained.final_metrics(2)
    assert read_file(f"{run}/prior/model/manifest.json")

    evaluate = f"{lines['coco_eval']} 'sets=[{{name: val, source: {{path: {pairs}}}}}]'"
    type_line(evaluate, user)
    (evaluated,) = json.loads(read_file(f"{bucket}/eval/report.json"))["sets"]
    assert {"fd_efficientnet_lite0", "clip_score"} <= {figure["metric"] for figure in evaluated["figures"]}
    assert b"<html" in read_file(f"{bucket}/eval/report.html")
    assert read_file(f"{bucket}/eval/val/contact_sheet.png").startswith(b"\x89PNG")
    assert json.loads(read_file(f"{bucket}/eval/receipt.json"))
    nodes = nodes_of_actors(cluster, user)
    assert [len(nodes[name]) for name in ("RayTrainWorker", "MapWorker(Map(Generate))")] == [2, 2], nodes

    type_line(evaluate, user)  # finds its shards in the store
    assert json.loads(read_file(f"{bucket}/eval/report.json"))["sets"] == [evaluated]
