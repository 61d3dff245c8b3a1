from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fsspec import AbstractFileSystem

from models.checkpoint import save_tensors
from models.manifest import verify
from t2i.storage import DataError, list_folder, retry
from t2i.train.checkpoint.folder import CheckpointNotSavedError, as_not_saved_error
from t2i.train.checkpoint.run_directory import RunChangedError, RunDirectory, checkpoint_name
from tests.t2i.storage.faulty_store import FaultyStore

CONFIG: dict[str, Any] = {
    "kind": "T",
    "task": {"lr": 0.1, "model": {"width": 8}},
    "train": {"steps": 10, "seed": 0},
    "inputs": {},
}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "run"))


def begin(run: RunDirectory, tmp_path: Path) -> None:
    run.claim(CONFIG)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "weights").write_text("w")
    run.put_checkpoint(tmp_path / "checkpoint", "step_0000001", keep=2)


def changed(**part: dict[str, Any]) -> dict[str, Any]:
    return {key: value | part.get(key, {}) if isinstance(value, dict) else value for key, value in CONFIG.items()}


def test_a_changed_field_is_refused_by_name(run: RunDirectory, tmp_path: Path) -> None:
    begin(run, tmp_path)
    with pytest.raises(RunChangedError, match=r"task\.model\.width \(8 -> 16\).*name another run directory\.$"):
        run.claim(changed(task={"model": {"width": 16}}))
    with pytest.raises(RunChangedError, match=r"inputs\.dvae \(None -> abc\)"):
        run.claim(changed(inputs={"dvae": "abc"}))


def test_a_run_may_grow_longer(run: RunDirectory, tmp_path: Path) -> None:
    begin(run, tmp_path)
    run.claim(changed(train={"steps": 20}))
    with pytest.raises(RunChangedError, match="seed"):
        run.claim(changed(train={"steps": 20, "seed": 1}))


def test_a_run_with_nothing_in_it_may_be_configured_anew(run: RunDirectory) -> None:
    run.claim(CONFIG)
    run.claim(changed(train={"seed": 1}))


def test_a_run_is_finished_when_model_and_metrics_stand(run: RunDirectory, tmp_path: Path) -> None:
    run.finish({"step": 10})
    assert run.final_metrics(10) is None
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "manifest.json").write_text('{"files": {}}')
    run.put(tmp_path / "model", "model")
    assert run.final_metrics(10) == {"step": 10}
    assert run.final_metrics(11) is None


def test_a_later_broken_checkpoint_spares_the_one_just_written(run: RunDirectory, tmp_path: Path) -> None:
    broken = tmp_path / "run/checkpoints/step_0000009"
    broken.mkdir(parents=True)
    for step in (1, 2):
        put(run, tmp_path, step, keep=1)
    assert kept(run) == ["step_0000002", "step_0000009"]
    assert newest(run) == "step_0000002"


@pytest.fixture(params=["local", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> RunDirectory:
    return RunDirectory(f"{tmp_path if request.param == 'local' else request.getfixturevalue('bucket')}/run")


def put(run: RunDirectory, tmp_path: Path, step: int, keep: int, metric: float | None = None) -> None:
    directory = tmp_path / "written" / str(step)
    directory.mkdir(parents=True)
    (directory / "weights").write_text(f"weights {step}")
    run.put_checkpoint(directory, checkpoint_name(step), keep, metric)


def put_files_of(
    run: RunDirectory, tmp_path: Path, step: int, rank: int, world: int, attempt: str, metric: float | None = None
) -> None:
    directory = tmp_path / "written" / f"{step}-{attempt}-{rank}"
    directory.mkdir(parents=True)
    (directory / f"weights-{rank}").write_text(f"{step} {attempt} {rank}")
    run.put_checkpoint(directory, checkpoint_name(step, attempt), 1, metric, rank, world)


def newest(run: RunDirectory) -> str:
    found = run.newest_checkpoint()
    assert found
    verify(found.local)
    return found.name


def kept(run: RunDirectory) -> list[str]:
    return [entry.name for entry in list_folder(run.filesystem, f"{run.path}/checkpoints")]


def test_the_newest_and_the_best_are_kept(anywhere: RunDirectory, tmp_path: Path) -> None:
    for step, metric in enumerate([3.0, 1.0, 2.0, math.nan, None, 2.5], 1):
        put(RunDirectory(anywhere.uri), tmp_path, step, 2, metric)  # a restart before each: nothing is remembered
    assert kept(anywhere) == ["step_0000002", "step_0000005", "step_0000006"]
    put(anywhere, tmp_path, 7, 2, 0.5)
    put(anywhere, tmp_path, 8, 2, 0.5)
    put(anywhere, tmp_path, 9, 2, 0.7)
    assert kept(anywhere) == ["step_0000008", "step_0000009"]


def test_without_metrics_only_the_newest_are_kept(run: RunDirectory, tmp_path: Path) -> None:
    for step in range(1, 5):
        put(run, tmp_path, step, 2)
    assert kept(run) == ["step_0000003", "step_0000004"]


def test_a_checkpoint_that_cannot_be_deleted_stops_nothing(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_warnings: list[str]
) -> None:
    def refuse(filesystem: AbstractFileSystem, path: str) -> None:  # noqa: ARG001  delete_folder's
        raise PermissionError(f"not allowed to delete {path}")

    monkeypatch.setattr("t2i.train.checkpoint.folder.delete_folder", refuse)
    put(run, tmp_path, 1, keep=1)
    put(run, tmp_path, 2, keep=1)
    assert [text.partition(": ")[0] for text in train_warnings] == ["could not delete checkpoint step_0000001"]
    assert newest(run) == "step_0000002"


def test_a_checkpoint_of_several_writers_is_whole_when_the_last_has_finished(
    anywhere: RunDirectory, tmp_path: Path
) -> None:
    put(anywhere, tmp_path, 1, keep=1)
    for rank in (0, 2):
        put_files_of(anywhere, tmp_path, 2, rank, 3, "aa")
    assert newest(anywhere) == "step_0000001"
    put_files_of(anywhere, tmp_path, 2, 1, 3, "aa")
    assert newest(anywhere) == "step_0000002-aa"
    local = anywhere.fetch_checkpoint("step_0000002-aa")
    assert [(local / f"weights-{rank}").read_text() for rank in range(3)] == [f"2 aa {rank}" for rank in range(3)]


def test_the_newest_whole_one_stays_until_there_is_another(run: RunDirectory, tmp_path: Path) -> None:
    for rank in (0, 1):
        put_files_of(run, tmp_path, 1, rank, 2, "aa")
    put_files_of(run, tmp_path, 2, 0, 2, "aa")  # prunes, but rank 1 has not finished
    assert kept(run) == ["step_0000001-aa", "step_0000002-aa"]
    put_files_of(run, tmp_path, 2, 1, 2, "aa")
    put_files_of(run, tmp_path, 3, 0, 2, "aa")
    assert kept(run) == ["step_0000002-aa", "step_0000003-aa"]


def test_the_best_of_several_writers_is_kept(run: RunDirectory, tmp_path: Path) -> None:
    for step, metric in ((1, 0.1), (2, 0.3), (3, 0.2)):
        for rank in (1, 0):
            put_files_of(run, tmp_path, step, rank, 2, "aa", metric)
    assert kept(run) == ["step_0000001-aa", "step_0000003-aa"]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_what_another_attempt_left_is_neither_whole_nor_mixed_in(run: RunDirectory, tmp_path: Path, world: int) -> None:
    """Two of three writers had finished step 2 when the run was started again with ``world``."""
    for rank in range(3):
        put_files_of(run, tmp_path, 1, rank, 3, "zz")
    for rank in (0, 1):
        put_files_of(run, tmp_path, 2, rank, 3, "zz")
    for rank in range(1, world):
        put_files_of(run, tmp_path, 2, rank, world, "aa")
    assert newest(run) == "step_0000001-zz"
    put_files_of(run, tmp_path, 2, 0, world, "aa")
    found = run.newest_checkpoint()
    assert found
    local = found.local
    assert sorted(verify(local)) == [f"weights-{rank}" for rank in range(world)]
    assert {(local / name).read_text().split()[1] for name in verify(local)} == {"aa"}
    for rank in range(world):
        put_files_of(run, tmp_path, 3, rank, world, "aa")
    put_files_of(run, tmp_path, 4, 0, world, "aa")
    assert "step_0000002-zz" not in kept(run)  # the leftover goes with the next pruning


def test_files_of_several_writers_need_an_attempt_of_their_own(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names no attempt"):
        run.put_checkpoint(tmp_path, checkpoint_name(1), keep=1, rank=0, world=2)


def test_a_damaged_file_sends_the_run_back(run: RunDirectory, tmp_path: Path) -> None:
    for step in (1, 2):
        for rank in (0, 1):  # rank 0 prunes before rank 1 has finished step 2, so that step 1 stays
            put_files_of(run, tmp_path, step, rank, 2, "aa")
    for file in ("weights-1", "manifest-00001-of-00002.json"):
        (tmp_path / "run/checkpoints/step_0000002-aa" / file).write_text("damaged")
        assert newest(run) == "step_0000001-aa"


def test_a_lost_store_is_not_an_empty_run(
    bucket: str, store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(f"{bucket}/run")
    put(run, tmp_path, 1, keep=1)
    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(0.1, 0.01, 0.02, library_attempts=1))
    with store.away(), pytest.raises(DataError, match="it cannot be used"):
        run.newest_checkpoint()


def test_a_store_lost_while_saving_is_said_and_leaves_the_older_checkpoint(
    bucket: str, store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(f"{bucket}/run")
    put(run, tmp_path, 1, keep=1)
    monkeypatch.setattr(retry, "RETRY_POLICY", retry.RetryPolicy(0, 0.01, 0.02, library_attempts=1))
    store.fail("busy", only="PUT /tests")
    with pytest.raises(
        CheckpointNotSavedError, match=r"^checkpoint step_0000002 was not saved: .*; training goes on\.$"
    ):
        put(run, tmp_path, 2, keep=1)
    assert kept(run) == ["step_0000001"]
    assert newest(run) == "step_0000001"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte; only the super-user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a small disk here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_said_and_leaves_the_older_checkpoint(small_disk: Path, tmp_path: Path) -> None:
    run = RunDirectory(str(small_disk / "run"))
    put(run, tmp_path, 1, keep=1)
    large = tmp_path / "large"
    large.mkdir()
    (large / "a").write_bytes(bytes(300_000))
    (large / "weights").write_bytes(bytes(2_000_000))
    with pytest.raises(
        CheckpointNotSavedError,
        match=r"^checkpoint step_0000002 was not saved: No space left on device; "
        r"training goes on: free space under .*/disk/run/checkpoints\.$",
    ):
        run.put_checkpoint(large, checkpoint_name(2), keep=1)
    with pytest.raises(CheckpointNotSavedError, match="No space left on device"):
        run.put_checkpoint(large, checkpoint_name(2, "aa"), keep=1, rank=0, world=2)
    assert kept(run) == ["step_0000001"]
    assert newest(run) == "step_0000001"
    assert shutil.disk_usage(small_disk).used < 100_000


def test_a_full_disk_while_tensors_are_written_is_said(small_disk: Path) -> None:
    with pytest.raises(CheckpointNotSavedError, match=r"No space left on device; .* free space under .*/disk\.$"):  # noqa: SIM117
        with as_not_saved_error(checkpoint_name(1), small_disk):
            save_tensors(small_disk / "weights.safetensors", {"x": torch.zeros(1_000_000)})


def test_progress_is_written_when_there_is_time(run: RunDirectory) -> None:
    writer = run.progress_writer()
    for step in range(100):
        writer.put({"step": step})
    writer.close()
    assert run.read_progress() == {"step": 99}


def test_a_run_goes_on_when_its_data_was_moved(run: RunDirectory, tmp_path: Path) -> None:
    run.claim({"inputs": {"data": {"path": f"{tmp_path}/old/x.parquet"}}})
    put(run, tmp_path, 1, keep=1)
    run.claim({"inputs": {"data": {"path": f"{tmp_path}/new/x.parquet"}}})
    with pytest.raises(RunChangedError, match=r"inputs\.data\.path"):
        run.claim({"inputs": {"data": {"path": f"{tmp_path}/new/y.parquet"}}})
