from __future__ import annotations

from typing import Any

import pytest

from t2i.evaluate.progress import ShardProgress

ROWS = [{"images": 8, "generate_seconds": 6.0, "score_seconds": 4.0, "extract_seconds": 1.0}] * 3


def test_the_bottleneck_is_what_takes_longest_for_its_actors() -> None:
    shown = ShardProgress("val drawn", total=5, done=2, actors={"generate": 2, "score": 1})
    assert shown.bottleneck == ""
    assert list(shown.follow(ROWS)) == ROWS
    assert shown.bottleneck == "score"  # 3 s of generate for each of two actors


def test_a_line_says_rate_time_left_and_bottleneck(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr("t2i.evaluate.progress.time.monotonic", lambda: float(next(clock)))
    for _ in ShardProgress("val drawn", total=5, done=2, actors={}).follow(ROWS):
        pass
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3  # each is more than 10 s after the one before
    assert lines[-1].startswith("val drawn: 100%")
    assert "5/5" in lines[-1]
    assert "images/s, bottleneck generate" in lines[-1]


def test_lines_are_rare_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [{"images": 1}] * 100
    assert len(list(ShardProgress("x", 100, 0, {}).follow(rows))) == 100
    assert len(capsys.readouterr().err.splitlines()) == 2  # the first and the last
