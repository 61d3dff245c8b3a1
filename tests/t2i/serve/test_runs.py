"""Runs in a store: checked before anything starts, fetched where replicas are, and only what was deployed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from models.errors import UserError
from models.manifest import file_hash, verify
from models.run_layout import RunLayout
from t2i.serve.config import ModelConfig, NamedRun, ServeConfig
from t2i.serve.runs import check_run, fetched, version_of
from t2i.storage import filesystem_for, put_directory
from tests.kept_models import keep


@pytest.fixture
def stored(run_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The run, in a store."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "cache"))
    run = f"memory://{tmp_path.name}/run"
    put(run_directory, run)
    return run


def put(run: Path, uri: str) -> None:
    for name, directory in RunLayout(run).models.items():
        put_directory(directory, RunLayout(uri).models[name])


def test_replicas_read_a_copy_of_what_is_in_the_store(stored: str, run_directory: Path) -> None:
    assert version_of(stored) == version_of(str(run_directory))
    config = fetched(ModelConfig.of(ServeConfig(run=stored), stored, version_of(stored)))
    assert "://" not in config.run
    copy, original = (Path(RunLayout(run).prior, "weights.safetensors") for run in (config.run, run_directory))
    assert file_hash(copy) == file_hash(original)


def test_replicas_read_a_copy_of_a_version_of_a_model(
    stored: str, run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T2I_MODEL_STORE", f"{stored}/models")
    run = f"models://{keep('small', run_directory).path}"
    config = fetched(ModelConfig.of(ServeConfig(run=run), run, version_of(run)))
    assert verify(config.run)
    assert version_of(config.run) == version_of(str(run_directory))


def test_what_a_run_in_a_store_lacks_is_named(stored: str) -> None:
    check_run(stored)
    filesystem, path = filesystem_for(RunLayout(stored).clip)
    filesystem.rm(f"{path}/manifest.json")
    with pytest.raises(UserError, match=f"{stored} has no clip: train it, or name another run"):
        check_run(stored)
    with pytest.raises(UserError, match="memory://nowhere/run has no tokenizer"):
        check_run("memory://nowhere/run")


def test_a_replica_refuses_a_run_that_has_changed_since_it_was_deployed(
    run_directory: Path, other_run: Path, tmp_path: Path
) -> None:
    run = str(shutil.copytree(run_directory, tmp_path / "run"))
    config = ModelConfig.of(ServeConfig(run=run), run, version_of(run))
    assert fetched(config) == config
    shutil.copytree(other_run, run, dirs_exist_ok=True)
    with pytest.raises(UserError, match="has changed since it was deployed: add it again"):
        fetched(config)


def test_a_models_replicas_know_of_no_other_model(run_directory: Path) -> None:
    config = ServeConfig(run="/runs/other", models=[NamedRun(run_directory.name, str(run_directory))])
    model = ModelConfig.of(config, str(run_directory), "version")
    assert (model.model_names, model.version) == ([run_directory.name], "version")
