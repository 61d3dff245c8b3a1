"""``ray job submit --working-dir .`` on two nodes: the submitted code is the code that runs, with no rebuild."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster

from models.checkpoint import save_model
from models.dvae import DVAE
from models.presets import get_preset

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
EDIT = "\n_encode = DVAE.encode\nDVAE.encode = lambda self, images: _encode(self, images) * 0 + 7\n"


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head that runs nothing but the driver, and a second node for the workers; ``python`` there is this one.

    The Ray that the other tests share makes way: its processes and these would not find their own head.
    """
    ray.shutdown()
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": True, "dashboard_port": 0}
    )
    cluster.add_node(num_cpus=2, resources={"second": 1})
    yield cluster
    cluster.shutdown()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout without its data, and an edit under ``models/``."""
    copy = tmp_path / "checkout"
    for folder in ("models", "platform", "jobs"):
        ignore = shutil.ignore_patterns("__pycache__", "datasets")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    with (copy / "models" / "dvae" / "dvae.py").open("a") as file:
        file.write(EDIT)
    return copy


def submit(cluster: Cluster, words: list[str]) -> None:
    """``ray job submit``, once the head's agent is up: Ray has no other way of asking whether it is."""
    command = [str(BIN / "ray"), "job", "submit", "--address", f"http://{cluster.webui_url}", *words]
    for _ in range(30):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if "No available agent" not in done.stdout + done.stderr:
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_an_edit_reaches_the_workers_of_a_submitted_job(two_nodes: Cluster, checkout: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    save_model(run / "dvae" / "model", DVAE(get_preset("tiny").dvae))
    emoji = ROOT / "jobs" / "datasets" / "emoji64" / "test.parquet"
    sources = [f"data.{split}.{key}" for split in ("train", "val") for key in (f"path={emoji}", "limit=16")]
    job = ["python", "jobs/encode_images.py", f"run={run}", "image_size=32", *sources]
    submit(two_nodes, ["--working-dir", str(checkout), "--", *job])
    tokens = pq.ParquetDataset(next((run / "tokens" / "train").glob("**/*.parquet")).parent).read()["image_tokens"]
    assert {token for row in tokens.to_pylist() for token in row} == {7}
