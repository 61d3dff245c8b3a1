"""`make submit` on two nodes: the submitted code is the code that runs, and the nodes' credentials those it has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import dataset

from models.checkpoint import save_model
from models.dvae import DVAE
from models.presets import get_preset
from t2i.storage import arrow_filesystem, filesystem_for, put_directory, write_file
from tests.submitted import MAKE, Cluster, machine, submit, two_machines
from tests.t2i.storage.seaweed import SECRET_KEY

ROOT = Path(__file__).resolve().parents[2]
EDIT = "\n_encode = DVAE.encode\nDVAE.encode = lambda self, images: _encode(self, images) * 0 + 7\n"
TOLD = ("/api/jobs/", "/api/v0/runtime_envs?detail=1", "/api/v0/actors?detail=1", "/api/v0/workers?detail=1")
"""What Ray tells of a job: its entrypoint and settings, and those of its workers."""


@pytest.fixture
def cluster(bucket: str, tmp_path: Path) -> Iterator[Cluster]:  # noqa: ARG001  it sets AWS_ENDPOINT_URL
    """A head that runs nothing but the driver, and a node for the workers; both have the store's credentials."""
    store = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    with two_machines(tmp_path, (1, 2), store) as cluster:
        yield cluster


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout without its data, and an edit under ``models/``."""
    copy = tmp_path / "checkout"
    for folder in ("models", "platform", "jobs"):
        ignore = shutil.ignore_patterns("__pycache__", "datasets")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for name in ("Makefile", ".rayignore"):
        shutil.copy(ROOT / name, copy)
    with (copy / "models" / "dvae" / "dvae.py").open("a") as file:
        file.write(EDIT)
    return copy


@pytest.fixture
def run(bucket: str, tmp_path: Path) -> str:
    """A run in the store with a dVAE, beside 16 captioned images."""
    put_directory(save_model(tmp_path / "dvae", DVAE(get_preset("tiny").dvae)), f"{bucket}/run/dvae/model")
    pq.write_table(pq.read_table("jobs/datasets/emoji64/test.parquet").slice(0, 16), tmp_path / "pairs.parquet")
    write_file(*filesystem_for(f"{bucket}/pairs.parquet"), (tmp_path / "pairs.parquet").read_bytes())
    return f"{bucket}/run"


@pytest.mark.ray
@pytest.mark.slow
def test_a_submitted_job_has_the_edited_code_and_the_nodes_credentials(
    cluster: Cluster, checkout: Path, run: str, bucket: str, tmp_path: Path
) -> None:
    user = machine(tmp_path / "user") | {"RAY_AUTH_TOKEN": cluster.token, "HF_TOKEN": "the-user's-own-secret"}
    arguments = f"ARGS=run={run} image_size=32 " + " ".join(
        f"data.{split}.path={bucket}/pairs.parquet" for split in ("train", "val")
    )
    command = [*MAKE, "submit", "JOB=encode_images", f"ADDRESS={cluster.dashboard}", arguments]
    printed = submit(command, env=user, cwd=checkout)
    assert printed.endswith(": succeeded\n")

    filesystem, path = filesystem_for(f"{run}/tokens/train")
    tokens = dataset(path, filesystem=arrow_filesystem(filesystem), format="parquet", exclude_invalid_files=True)
    assert {token for row in tokens.to_table()["image_tokens"].to_pylist() for token in row} == {7}

    told = [cluster.told(path) for path in TOLD]
    assert "encode_images" in told[0]
    assert "AWS_ENDPOINT_URL" in told[1]
    for secret in (SECRET_KEY, cluster.token, "the-user's-own-secret"):
        assert not [text for text in (printed, *told) if secret in text]
