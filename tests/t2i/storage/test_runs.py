"""Runs and files that lie in a store, as local copies."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest

from models.checkpoint import load_model
from models.manifest import CheckpointError
from models.prior import Prior, PriorConfig
from models.run_layout import RunLayout
from t2i.storage import DataError, directories, filesystem_for, put_directory, write_file
from t2i.storage.runs import fetch_file, fetch_run


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "cache"))


@pytest.fixture
def stored(tiny_run: Path, tmp_path: Path) -> str:
    """The tiny run, in a store."""
    run = f"memory://{tmp_path.name}/run"
    for name, directory in RunLayout(tiny_run).models.items():
        put_directory(directory, RunLayout(run).models[name])
    return run


def test_what_is_local_stays_where_it_is(tiny_run: Path) -> None:
    assert fetch_run(tiny_run) == str(tiny_run)
    assert fetch_file(tiny_run / "prior/model/manifest.json") == tiny_run / "prior/model/manifest.json"


def test_a_run_in_a_store_becomes_a_run_here_once(stored: str, tiny_run: Path) -> None:
    local = fetch_run(stored)
    assert fetch_run(stored) == local
    copies, originals = (
        load_model(Prior, PriorConfig, RunLayout(run).prior).state_dict() for run in (local, str(tiny_run))
    )
    assert all(copies[name].equal(originals[name]) for name in originals)


def test_a_model_that_changes_makes_another_run(stored: str, tiny_run: Path) -> None:
    before = fetch_run(stored)
    put_directory(RunLayout(tiny_run).dvae, RunLayout(stored).prior)
    assert fetch_run(stored) != before


def test_who_comes_together_shares_one_copy(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = mock.Mock(side_effect=directories._download)
    monkeypatch.setattr(directories, "_download", downloads)
    with ThreadPoolExecutor(4) as threads:
        copies = set(threads.map(fetch_run, [stored] * 4))
    assert len(copies) == 1
    assert downloads.call_count == len(RunLayout(stored).models)


def test_a_file_that_nobody_has_used_for_a_day_makes_room(stored: str, tmp_path: Path) -> None:
    uri = f"memory://{tmp_path.name}/weights.pth"
    write_file(*filesystem_for(uri), b"weights")
    copy = fetch_file(uri)
    os.utime(copy, (0, 0))
    fetch_run(stored)
    assert not copy.exists()
    assert fetch_file(uri).read_bytes() == b"weights"


def test_a_run_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="tokenizer"):
        fetch_run(f"memory://{tmp_path.name}/nothing")


def test_a_file_is_fetched_once_and_anew_when_it_has_changed(tmp_path: Path) -> None:
    uri = f"memory://{tmp_path.name}/weights.pth"
    write_file(*filesystem_for(uri), b"first")
    first = fetch_file(uri)
    assert (first.suffix, first.read_bytes(), fetch_file(uri)) == (".pth", b"first", first)
    write_file(*filesystem_for(uri), b"second")
    assert fetch_file(uri).read_bytes() == b"second"
    assert first.read_bytes() == b"first"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"weights\.pth"):
        fetch_file(f"memory://{tmp_path.name}/weights.pth")
