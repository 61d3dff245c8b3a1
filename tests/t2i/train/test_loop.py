from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoint import save_model
from t2i.train.config import TrainConfig
from t2i.train.loader.feed import InMemorySource
from t2i.train.loop import NonFiniteLossError, TrainLoop, run_config
from t2i.train.parallel import Worker
from t2i.train.tasks.base import Columns, Task
from tests.t2i.train.line_task import Line, LineTask, Recorders, RecordingReporter, ignore_step


def run(task: Task, columns: Columns, reporter: RecordingReporter, steps: int = 12, **settings: Any) -> TrainLoop:
    defaults: dict[str, Any] = {"batch_size": 16, "log_every": 1, "checkpoint_every": 4, "validate_every": 5}
    config = TrainConfig(steps=steps, **defaults | {"precision": "fp32"} | settings)
    loop = TrainLoop(task, config, InMemorySource(columns), columns, reporter, Worker())
    loop.run()
    return loop


def test_the_loss_falls_and_the_run_ends_with_its_metrics(
    line_task: LineTask, line_columns: Columns, recording: Recorders
) -> None:
    reporter = recording()
    loop = run(line_task, line_columns, reporter, steps=60)
    assert reporter.losses[60] < reporter.losses[1] / 10
    assert reporter.is_finished
    assert set(reporter.validations) == {5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60}
    assert loop.state.step == 60


def test_a_resumed_run_repeats_the_uninterrupted_one_bit_for_bit(
    line_task: LineTask, line_columns: Columns, recording: Recorders, tmp_path: Path
) -> None:
    line_task.config.noise = 0.1
    uninterrupted = recording()
    reference = run(line_task, line_columns, uninterrupted)
    (tmp_path / "run").rename(tmp_path / "reference")

    def killed(step: int) -> None:
        if step == 10:
            raise KeyboardInterrupt

    line_task.on_step = killed
    first, second = recording(), recording()
    with pytest.raises(KeyboardInterrupt):
        run(line_task, line_columns, first)
    line_task.on_step = ignore_step
    resumed = run(line_task, line_columns, second)

    assert second.begun_at == 8
    assert first.losses | second.losses == uninterrupted.losses
    for ours, theirs in (
        (resumed.state.model, reference.state.model),
        (resumed.state.ema.model, reference.state.ema.model),
    ):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_a_new_run_starts_from_given_weights_and_goes_on_without_them(
    line_task: LineTask, line_columns: Columns, recording: Recorders, tmp_path: Path
) -> None:
    given = line_task.build()
    assert isinstance(given, Line)
    directory = save_model(tmp_path / "given", given)
    line_task.config.lr = 0.0
    started = run(line_task, line_columns, recording(), steps=4, start_from=str(directory))
    for model in (started.state.model, started.state.ema.model):
        assert torch.equal(model.get_parameter("layer.weight"), given.layer.weight)
    shutil.rmtree(directory)
    resumed = run(line_task, line_columns, recording(), steps=8, start_from=str(directory))
    assert resumed.state.step == 8
    assert torch.equal(resumed.state.model.get_parameter("layer.weight"), given.layer.weight)


def test_a_damaged_newest_checkpoint_is_skipped_and_later_replaced(
    line_task: LineTask, line_columns: Columns, recording: Recorders
) -> None:
    first, second, third = recording(), recording(), recording()
    run(line_task, line_columns, first, steps=8)
    checkpoints = first.run.path + "/checkpoints"
    with open(f"{checkpoints}/step_0000008/state-00000-of-00001.safetensors", "r+b") as file:
        file.truncate(10)
    run(line_task, line_columns, second, steps=8)
    assert second.begun_at == 4
    run(line_task, line_columns, third, steps=8)
    assert third.begun_at == 8


def test_a_checkpoint_without_its_manifest_is_ignored(
    line_task: LineTask, line_columns: Columns, recording: Recorders, tmp_path: Path
) -> None:
    first, second = recording(), recording()
    run(line_task, line_columns, first, steps=8)
    (tmp_path / "run/checkpoints/step_0000008/manifest.json").unlink()
    run(line_task, line_columns, second, steps=8)
    assert second.begun_at == 4


def test_old_checkpoints_are_deleted(
    line_task: LineTask, line_columns: Columns, recording: Recorders, tmp_path: Path
) -> None:
    run(line_task, line_columns, recording(), steps=12)
    assert sorted(p.name for p in (tmp_path / "run/checkpoints").iterdir()) == ["step_0000008", "step_0000012"]


def test_a_loss_without_a_value_stops_the_run_before_it_is_saved(
    line_task: LineTask, line_columns: Columns, recording: Recorders, tmp_path: Path
) -> None:
    line_task.config.lr = float("inf")
    with pytest.raises(NonFiniteLossError, match="at step 2"):
        run(line_task, line_columns, recording())
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_precision_is_that_of_activations_not_of_weights(
    precision: str, dtype: torch.dtype, line_task: LineTask, line_columns: Columns, recording: Recorders
) -> None:
    loop = run(line_task, line_columns, recording(), steps=2, precision=precision)
    assert isinstance(loop.state.model, Line)
    assert loop.state.model.computed_in == dtype
    assert {p.dtype for p in loop.state.model.parameters()} == {torch.float32}
    assert (loop.state.scales is not None) == (precision == "fp16")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 10, "workers": 3}, "train.batch_size is 10: use a multiple of 3 workers x 1"),
        ({"precision": "fp8"}, "train.precision is 'fp8'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_a_description_names_task_and_settings(line_task: LineTask) -> None:
    described = run_config(line_task, TrainConfig(steps=3))
    assert described["kind"] == "LineTask"
    assert described["task"] == {"lr": 0.05, "noise": 0.0}
    assert described["train"]["steps"] == 3
