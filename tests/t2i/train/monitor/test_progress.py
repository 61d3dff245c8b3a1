from __future__ import annotations

from pathlib import Path

import pytest

from t2i.train.checkpoint.run_directory import RunDirectory
from t2i.train.monitor.progress import ProgressLine, StepProgress, show_progress


def test_the_line_tells_rate_and_time_left_from_the_first_step_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 110.0])
    monkeypatch.setattr("t2i.train.monitor.progress.time.monotonic", lambda: next(now))
    line = ProgressLine(100, "dvae")
    line.show(StepProgress(50, None))
    text = line.text(StepProgress(70, 0.25), 110.0)
    assert text.startswith("dvae:  70%")
    assert "70/100" in text
    assert "00:10<00:15" in text
    assert "2.00 steps/s" in text
    assert "loss 0.2500" in text


def test_without_a_terminal_lines_are_rare_and_the_last_one_comes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 1.0, 11.0, 12.0])
    monkeypatch.setattr("t2i.train.monitor.progress.time.monotonic", lambda: next(clock))
    line = ProgressLine(100, "dvae")
    for step in (1, 2, 3):
        line.show(StepProgress(step, 0.5))
    line.show(StepProgress(4, 0.5), last=True)
    printed = capsys.readouterr().err.splitlines()
    assert [text.split("|")[2].split("/")[0].strip() for text in printed] == ["1", "3", "4"]


def test_what_an_earlier_process_wrote_is_not_shown(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path))
    run.write_progress({"step": 7, "loss": 0.5})
    with show_progress(run, 10, "dvae"):
        assert run.read_progress() == {}
