"""``ray job submit --working-dir .`` on two nodes: the submitted code is the code that runs, with no rebuild."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster

from models.checkpoint import save_model
from models.dvae import DVAE
from models.presets import get_preset
from tests.submitted import submit
from tests.t2i.train.tiny import free_port

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
    head = {"num_cpus": 1, "include_dashboard": True, "dashboard_port": 0, "dashboard_agent_listen_port": free_port()}
    cluster = Cluster(initialize_head=True, head_node_args=head)  # 52365 is the agent's port of any other Ray here
    cluster.add_node(num_cpus=2, resources={"second": 1}, dashboard_agent_listen_port=free_port())
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


@pytest.mark.ray
@pytest.mark.slow
def test_an_edit_reaches_the_workers_of_a_submitted_job(two_nodes: Cluster, checkout: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    save_model(run / "dvae" / "model", DVAE(get_preset("tiny").dvae))
    emoji = ROOT / "jobs" / "datasets" / "emoji64" / "test.parquet"
    sources = [f"data.{split}.{key}" for split in ("train", "val") for key in (f"path={emoji}", "limit=16")]
    job = ["python", "jobs/encode_images.py", f"run={run}", "image_size=32", *sources]
    address = f"http://{two_nodes.webui_url}"
    submit([str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", str(checkout), "--", *job])
    tokens = pq.ParquetDataset(next((run / "tokens" / "train").glob("**/*.parquet")).parent).read()["image_tokens"]
    assert {token for row in tokens.to_pylist() for token in row} == {7}
