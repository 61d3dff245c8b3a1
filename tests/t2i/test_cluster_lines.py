"""The README's lines for a cluster, as they stand there: two nodes, a store, and a user at another machine's prompt."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pyarrow.parquet as pq
import pytest

from models.run_layout import RunLayout
from t2i.storage import filesystem_for, put_directory, read_file, write_file
from t2i.train.checkpoint.run_directory import RunDirectory
from tests.commands import commands
from tests.submitted import MAKE, Cluster, let_in, machine, submit, two_machines

SMALLER = {
    "train_prior": ["train.steps=2", "train.batch_size=8", "train.precision=fp32", "task.model.layers=2"],
    "coco_eval": ["captions=20", "candidates=2", "shown=2", "extract.actors=1", "generate.cpus=3"],
    "validate": [],
}
"""Words added to a job's line: little work, and generators so large that each node has one."""


@pytest.fixture
def cluster(bucket: str, tmp_path: Path) -> Iterator[Cluster]:  # noqa: ARG001  it sets AWS_ENDPOINT_URL
    """Nodes that know where the store is, and its credentials; of four CPUs: room for the README's eight workers."""
    store = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    with two_machines(tmp_path, (4, 4), store) as cluster:
        yield cluster


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> dict[str, str]:
    """The environment of a user on a third machine, who was given the token, and no credentials of the store."""
    return machine(tmp_path / "user") | let_in(cluster.token)


@pytest.fixture
def lines(cluster: Cluster, bucket: str) -> dict[str, str]:
    """The README's lines by job, each below its ``export``, with this cluster's and this store's addresses."""

    def here(line: str) -> str:
        line = line.replace("http://head:8265", cluster.dashboard).replace("s3://bucket", bucket)
        return line.replace("make ", f"{' '.join(MAKE)} ")

    starts = ("export RAY_API", "ray job submit -", "make submit ")
    export, *found = [here(line) for line in commands("README.md") if line.startswith(starts)]
    return {job: f"{export}\n{' '.join([line, *SMALLER[job]])}" for job in SMALLER for line in found if job in line}


def others(run: str, pairs: str, folder: str) -> list[str]:
    """The other jobs, whose results go to ``folder``, and what is done with the receipt of an evaluation."""
    data = f"data.train.path={pairs} data.val.path={pairs} train.steps=2 train.batch_size=8 train.precision=fp32"
    return [
        f"train_tokenizer run={folder}/run source.path={pairs}",
        f"train_dvae run={folder}/run {data}",
        f"train_clip run={folder}/run {data}",
        f"prepare_pairs source.path={pairs} out={folder}/curated clip.model={run}/clip/model",
        f"generate run={run} captions=[taco] candidates=2 out={folder}/generated",
        f"export_models run={run} out={folder}/exported",
        f"coco_eval verify {folder}/receipt.json",
        f"coco_eval compare {folder}/receipt.json {folder}/receipt.json",
        f"coco_eval plan {folder}/receipt.json",
    ]


def put_models_and_pairs(run: str, pairs: str, folder: Path) -> None:
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
    put_models_and_pairs(run, pairs, tmp_path)
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

    type_line(lines["validate"], user)
    jobs = [f"python jobs/{job.replace(' ', '.py ', 1)}" for job in others(run, pairs, f"{bucket}/eval")]
    type_line(f"{lines['train_prior'].partition('python')[0]} bash -c {shlex.quote(' && '.join(jobs))}", user)
    for made in ("run/tokenizer", "run/dvae/model", "run/clip/model", "curated/pairs", "exported/prior/model"):
        assert read_file(f"{bucket}/eval/{made}/manifest.json")
    assert read_file(f"{bucket}/eval/generated/contact_sheet.png").startswith(b"\x89PNG")
