"""MLflow for real, into a file store and against a server that is not there; Weights & Biases for real, offline."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from torch import Tensor

from models.errors import UserError
from t2i.train.monitor import trackers
from t2i.train.monitor.trackers import BackgroundTracker, RunIds, TrackerConfig, open_tracker

PICTURE = torch.tensor([1.0, 0.5, 0.0])[:, None, None].expand(3, 2, 4)


class FakeTracker:
    """A tracker that keeps the steps it is given, and raises or hangs on demand."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.is_finished = False

    def log(self, step: int, values: Mapping[str, object]) -> None:  # noqa: ARG002  not kept
        self.gate.wait()
        if self.error:
            raise self.error
        self.steps.append(step)

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        self.log(step, pictures)

    def finish(self) -> None:
        self.is_finished = True


def test_all_arrives_before_the_end() -> None:
    kept = FakeTracker()
    tracker = BackgroundTracker("kept", lambda: kept)
    for step in range(50):
        tracker.log(step, {"train/loss": 1.0})
    tracker.finish()
    assert kept.steps == list(range(50))
    assert kept.is_finished


def test_an_error_is_logged_once_and_its_end_is_noticed(
    monkeypatch: pytest.MonkeyPatch, train_warnings: list[str]
) -> None:
    monkeypatch.setattr(trackers, "RETRY_SECONDS", 0.0)
    kept = FakeTracker()
    kept.error = RuntimeError("disk full\nand a long story")
    tracker = BackgroundTracker("kept", lambda: kept)
    for step in range(5):
        tracker.log(step, {})
    while not tracker._queue.empty():
        time.sleep(0.01)
    kept.error = None
    tracker.log(5, {})
    tracker.finish()
    assert kept.steps[-1] == 5
    assert train_warnings == ["kept misses a part of this run, which goes on: disk full"]


def test_a_tracker_that_hangs_delays_nobody(monkeypatch: pytest.MonkeyPatch, train_warnings: list[str]) -> None:
    monkeypatch.setattr(trackers, "QUEUE_SIZE", 4)
    kept = FakeTracker()
    kept.gate.clear()
    tracker, begun = BackgroundTracker("kept", lambda: kept), time.monotonic()
    for step in range(100):
        tracker.log(step, {})
    tracker.finish(seconds=0.1)
    assert time.monotonic() - begun < 2
    assert train_warnings == ["kept misses a part of this run, which goes on: it is too slow"]
    kept.gate.set()


def test_without_a_tracker_there_is_none(tmp_path: Path) -> None:
    assert open_tracker(TrackerConfig(), "run", str(tmp_path)) is None


def test_what_the_user_can_mend_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^train.tracker is 'tensorbord': use none, mlflow or wandb\.$"):
        TrackerConfig("tensorbord")
    monkeypatch.setattr(trackers, "find_spec", dict[str, ModuleSpec]().get)
    with pytest.raises(
        UserError, match=r"train.tracker is wandb, not installed here: pip install 't2i-platform\[wandb\]'"
    ):
        TrackerConfig("wandb")


def test_run_ids_are_kept_beside_the_run(tmp_path: Path) -> None:
    ids = RunIds(str(tmp_path))
    assert ids.get("mlflow") is None
    ids.keep("mlflow", "a")
    ids.keep("wandb", "b")
    assert (RunIds(str(tmp_path)).get("mlflow"), ids.get("wandb")) == ("a", "b")


def test_mlflow_keeps_curves_and_pictures_and_a_resumed_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_warnings: list[str]
) -> None:
    monkeypatch.setenv(
        "MLFLOW_ALLOW_FILE_STORE", "true"
    )  # MLflow recommends a database, which its skinny package lacks
    config = TrackerConfig("mlflow", "project", f"file://{tmp_path}/mlruns")
    for steps in ((1, 2), (2, 3)):  # killed after 2, resumed after 1
        tracker = open_tracker(config, "tiny/prior", str(tmp_path))
        assert isinstance(tracker, BackgroundTracker)
        for step in steps:
            tracker.log(step, {"train/loss": 1.0 / step, "train/lr": 0.1})
        tracker.pictures(steps[-1], {"samples": PICTURE})
        tracker.finish(seconds=300)
    assert not train_warnings

    client = MlflowClient(config.tracker_uri)
    experiment = client.get_experiment_by_name("project")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "tiny/prior"
    assert run.info.status == "FINISHED"
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "train/loss")] == [
        (1, 1.0),
        (2, 0.5),
        (2, 0.5),
        (3, 1.0 / 3),
    ]
    file = client.download_artifacts(run.info.run_id, "pictures/samples_0000003.png", str(tmp_path))
    assert np.array(Image.open(file))[0, 0].tolist() == [255, 128, 0]


def test_an_mlflow_server_that_is_down_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_warnings: list[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        config = TrackerConfig("mlflow", "project", f"http://127.0.0.1:{unused.getsockname()[1]}")
        tracker = open_tracker(config, "run", str(tmp_path))
        assert tracker
        begun = time.monotonic()
        for step in range(100):
            tracker.log(step, {"train/loss": 1.0})
        assert time.monotonic() - begun < 1
        tracker.finish()
    (warning,) = train_warnings
    assert warning.startswith("mlflow misses a part of this run")
    assert RunIds(str(tmp_path)).get("mlflow") is None


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_warnings: list[str]) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    monkeypatch.chdir(tmp_path)
    for steps in ((1, 2), (2, 3)):
        tracker = open_tracker(TrackerConfig("wandb", "project"), "tiny/prior", str(tmp_path))
        assert isinstance(tracker, BackgroundTracker)
        for step in steps:
            tracker.log(step, {"train/loss": 1.0 / step})
        tracker.pictures(steps[-1], {"samples": PICTURE})
        tracker.finish(seconds=300)
    assert not train_warnings
    written = list(tmp_path.rglob("*.wandb"))  # a file for each process (and second), named after the run
    assert {path.stem for path in written} == {f"run-{RunIds(str(tmp_path)).get('wandb')}"}
    deadline = time.monotonic() + 60
    while b"train/loss" not in max(written).read_bytes():  # W&B's own process writes it a moment later
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert list(tmp_path.rglob("samples*.png"))
