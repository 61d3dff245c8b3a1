"""An evaluation whose models, captions, images and results are all in a store."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from models.reranker import CLIPConfig
from models.run_layout import RunLayout
from t2i.storage import filesystem_for, put_directory, read_file, write_file
from tests.conftest import StartProcess
from tests.random_run import write_random_run


@pytest.mark.ray
@pytest.mark.soak
def test_everything_is_read_from_and_written_to_s3(bucket: str, tmp_path: Path, start_process: StartProcess) -> None:
    clip = CLIPConfig(image_size=32, width=16, hidden=32)
    run = write_random_run(tmp_path / "run", ["a red circle", "a blue square"] * 9, text_length=16, clip=clip)
    for name, directory in RunLayout(run).models.items():
        put_directory(directory, RunLayout(f"{bucket}/run").models[name])
    shutil.rmtree(run)
    pq.write_table(pq.read_table("jobs/datasets/emoji64/val.parquet").slice(0, 24), tmp_path / "val.parquet")
    write_file(*filesystem_for(f"{bucket}/val.parquet"), (tmp_path / "val.parquet").read_bytes())

    sets = f"sets=[{{name: val, source: {{path: '{bucket}/val.parquet'}}}}]"
    sizes = ["candidates=2", "shard=8", "shown=2", "slots=16", "generate.actors=1", "extract.actors=1", "ray.cpus=2"]
    words = [sys.executable, "jobs/coco_eval.py", f"run={bucket}/run", f"out={bucket}/eval", sets, *sizes]
    address = {"AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"]}
    assert start_process(words, env=address).wait(timeout=500) == 0
    report = json.loads(read_file(f"{bucket}/eval/report.json"))
    metrics = {figure["metric"] for figure in report["sets"][0]["figures"]}
    assert {"fd_efficientnet_lite0", "clip_score"} <= metrics
    assert b"<html" in read_file(f"{bucket}/eval/report.html")
    assert read_file(f"{bucket}/eval/val/contact_sheet.png").startswith(b"\x89PNG")
    assert start_process(words, env=address).wait(timeout=300) == 0  # finds everything finished
    assert json.loads(read_file(f"{bucket}/eval/report.json"))["sets"] == report["sets"]
