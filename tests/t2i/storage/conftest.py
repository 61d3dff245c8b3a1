"""A model store, and a run with all that a version of a model may have."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from models.run_layout import RunLayout
from t2i.storage.model_store import ModelStore


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been fetched before."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "cache"))


@pytest.fixture(params=["local", "memory"])
def model_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """An empty model store, which ``models://`` means."""
    return make_store(
        f"memory://{tmp_path.name}/store" if request.param == "memory" else str(tmp_path / "store"), monkeypatch
    )


@pytest.fixture
def local_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """One in a folder, which other processes see."""
    return make_store(str(tmp_path / "store"), monkeypatch)


@pytest.fixture
def remote_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """One that is not local: what is read of it is fetched."""
    return make_store(f"memory://{tmp_path.name}/store", monkeypatch)


def make_store(address: str, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    monkeypatch.setenv("T2I_MODEL_STORE", f"{address}/")
    return ModelStore(address)


@pytest.fixture(scope="session")
def carded_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with a model card, with records of its training, and with what is left of that."""
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("carded") / "run")
    Path(RunLayout(run).card).write_text("# A model card\n")
    for record in (RunLayout(run).dvae_record, RunLayout(run).prior_record):
        Path(record).write_text(f"task: {Path(record).parent.name}\n")
    (run / "prior/checkpoints").mkdir()
    (run / "prior/checkpoints/state").write_text("of training")
    return run
