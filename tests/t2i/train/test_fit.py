from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray.data
from ray.data import Dataset

from models.errors import UserError
from models.manifest import is_complete
from t2i.train import RunChangedError, RunDirectory, TrainConfig, fit
from t2i.train.failures import StepFailedError
from t2i.train.fit import gpus_per_worker
from t2i.train.loader.feed import InMemorySource
from t2i.train.loop import TrainLoop
from t2i.train.parallel import Worker
from t2i.train.tasks.base import Columns
from tests.t2i.train.line_task import LineTask, Recorders


def config(**settings: Any) -> TrainConfig:
    return TrainConfig(steps=20, batch_size=16, log_every=1, checkpoint_every=5, precision="fp32", **settings)


def datasets(columns: Columns) -> tuple[Dataset, Dataset]:
    pairs = zip(columns["id"], columns["x"], strict=True)
    rows = [{"id": row_id, "captions": ["a caption"], "x": x} for row_id, x in pairs]
    return ray.data.from_items(rows), ray.data.from_items(rows)


def sorted_columns(columns: Columns) -> Columns:
    order = columns["id"].argsort(kind="stable")
    return {name: column[order] for name, column in columns.items()}


@pytest.mark.parametrize(("said", "there", "expected"), [(None, 1, 0), (None, 2, 1), (0, 2, 0), (1, 0, 1)])
def test_workers_have_gpus_if_that_is_said_or_if_there_are_enough(
    monkeypatch: pytest.MonkeyPatch, said: int | None, there: int, expected: int
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": float(there)})
    assert gpus_per_worker(config(workers=2, gpus_per_worker=said)) == expected


@pytest.fixture
def expected(line_task: LineTask, line_columns: Columns, recording: Recorders) -> float:
    """The final error of the same run in one process, uninterrupted and without Ray."""
    columns = sorted_columns(line_columns)
    return TrainLoop(line_task, config(), InMemorySource(columns), columns, recording(), Worker()).run()["mse"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_survives_what_the_user_must_mend_and_a_killed_worker(
    line_task: LineTask, line_columns: Columns, expected: float, tmp_path: Path
) -> None:
    directory = str(tmp_path / "fit")

    def broken(step: int) -> None:
        if step == 8:
            raise UserError("the line is bent: straighten it.")

    line_task.on_step = broken
    with pytest.raises(UserError, match=r"^the line is bent: straighten it\.$"):
        fit(line_task, lambda: datasets(line_columns), config(), directory)

    def killed_once(step: int) -> None:
        if step == 13 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    line_task.on_step = killed_once
    result = fit(line_task, lambda: datasets(line_columns), config(), directory)
    assert (tmp_path / "killed").exists()
    assert result.metrics["mse"] == pytest.approx(expected, rel=1e-4)
    assert is_complete(result.model)
    newest = RunDirectory(directory).newest_checkpoint()
    assert newest
    assert newest.name == "step_0000020"

    def never() -> tuple[Dataset, Dataset]:
        raise AssertionError("a finished run must not read its data again")

    assert fit(line_task, never, config(), directory) == result
    with pytest.raises(RunChangedError, match=r"train\.seed \(0 -> 1\)"):
        fit(line_task, never, config(seed=1), directory)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_train_as_one_does(
    line_task: LineTask, line_columns: Columns, expected: float, tmp_path: Path
) -> None:
    result = fit(line_task, lambda: datasets(line_columns), config(workers=2), str(tmp_path / "fit"))
    assert result.metrics["mse"] == pytest.approx(expected, rel=1e-4)
    assert result.metrics["step"] == 20


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_an_error_that_comes_again_at_the_same_step_ends_the_run(
    line_task: LineTask, line_columns: Columns, tmp_path: Path
) -> None:
    def broken(step: int) -> None:
        if step == 8:
            with (tmp_path / "attempts").open("a") as attempts:
                attempts.write("x")
            raise ZeroDivisionError("the line is a point")

    line_task.on_step = broken
    with pytest.raises(StepFailedError, match=r"^ZeroDivisionError in step \d+: the line is a point$"):
        fit(line_task, lambda: datasets(line_columns), config(), str(tmp_path / "fit"))
    assert (tmp_path / "attempts").read_text() == "xx"
