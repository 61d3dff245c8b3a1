from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from export_models import ExportModels, main
from models.run_sizes import run_sizes
from t2i.data import SourceConfig
from t2i.data.run_record import training_source, write_training_source
from t2i.evaluate.work_list import run_models


@pytest.mark.parametrize("source", [None, SourceConfig("/data/captions.json", "coco", "/data/val2017", limit=9)])
def test_a_copied_run_knows_its_sizes_and_its_training_images(
    tiny_run: Path, tmp_path: Path, source: SourceConfig | None
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    if source:
        write_training_source(f"{tmp_path}/run", source)
    main(ExportModels(run=f"{tmp_path}/run", out=f"{tmp_path}/copy"))
    assert run_sizes(tmp_path / "copy") == run_sizes(tiny_run)
    assert training_source(f"{tmp_path}/copy") == source


def test_both_runs_may_be_in_a_store(stored_run: str, tiny_run: Path) -> None:
    write_training_source(stored_run, SourceConfig("s3://bucket/pairs/"))
    main(ExportModels(run=stored_run, out=f"{stored_run}/copy", dtype="float32"))
    assert run_models(f"{stored_run}/copy") == run_models(str(tiny_run))
    assert training_source(f"{stored_run}/copy") == SourceConfig("s3://bucket/pairs/")
