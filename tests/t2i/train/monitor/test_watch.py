from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from t2i.train.checkpoint.run_directory import RunDirectory
from t2i.train.monitor.trackers import TrackerConfig
from t2i.train.monitor.watch import Watch
from t2i.train.tasks.base import Work
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig

TASK = PriorTask(PriorTaskConfig(), tokenizer="", dvae="")
SCALES = {"scale/block_00_attention": 8192.0, "scale/block_00_mlp": 128.0}


def watch(directory: Path, tracker: TrackerConfig | None = None, step: int = 0) -> Watch:
    work = Work(300, "tokens", flops=60.0)
    return Watch(RunDirectory(str(directory)), step, TASK, work, 100.0, tracker or TrackerConfig(), 128.0)


def events(directory: Path) -> EventAccumulator:
    return EventAccumulator(str(directory / "logs")).Reload()


def test_a_run_is_watched_from_its_first_step_to_its_end(tmp_path: Path) -> None:
    watched = watch(tmp_path)
    for _ in range(2):
        watched.step(seconds=2.0, data_wait=0.5)
    line = watched.scalars(2, {"loss": 1.5, "lr": 0.1, **SCALES})
    watched.validation(2, {"psnr": 18.0}, {"samples": torch.rand(3, 2, 4)})
    watched.checkpoint()
    watched.close()
    assert line == {
        "loss": 1.5,
        "lr": 0.1,
        "seconds_per_step": 2.0,
        "tokens_per_second": 150.0,
        "data_wait_share": 0.25,
        "mfu": 0.3,
        "scale_min": 128.0,
        "scale_max": 8192.0,
    }
    found = events(tmp_path)
    scalars = {f"train/{name}": value for name, value in line.items()} | SCALES | {"validation/psnr": 18.0}
    assert {tag: found.Scalars(tag)[0].value for tag in found.Tags()["scalars"]} == pytest.approx(scalars)
    assert found.Tags()["images"] == ["samples"]
    assert found.Histograms("scale_log2")[0].histogram_value.num == 2
    assert (tmp_path / "pictures/samples_0000002.png").is_file()


def test_advice_is_kept_beside_the_curves(tmp_path: Path) -> None:
    watched = watch(tmp_path)
    watched.scalars(10, {"loss": 1.0, **SCALES})
    watched.validation(20, {"codes_used": 0.02, "perplexity": 5.0}, {})
    watched.close()
    text = events(tmp_path).Tensors("advice/text_summary")
    assert [event.step for event in text] == [10, 20]
    sentence = text[0].tensor_proto.string_val[0].decode()
    assert sentence.startswith("gradient scale at its floor in block_00_mlp")


def test_a_run_on_s3_keeps_its_records_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here under another local directory, which stands for the bucket."""
    run = RunDirectory(str(tmp_path / "bucket"))
    monkeypatch.setattr(RunDirectory, "is_local", False)
    watched = Watch(run, 0, TASK, Work(1), None, TrackerConfig())
    watched.scalars(1, {"loss": 0.5})
    watched.validation(1, {"psnr": 18.0}, {})
    while not list((tmp_path / "bucket").glob("logs/events.*")):  # copied in the background, each file at once
        time.sleep(0.01)
    assert events(tmp_path / "bucket").Scalars("train/loss")[0].value == 0.5
    watched.close()


def test_a_tracker_that_is_down_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        watched = watch(tmp_path, TrackerConfig("mlflow", tracker_uri=f"http://127.0.0.1:{unused.getsockname()[1]}"))
        watched.scalars(1, {"loss": 0.5})
        watched.validation(1, {"psnr": 18.0}, {})
        watched.close()
    assert events(tmp_path).Scalars("train/loss")[0].value == 0.5
