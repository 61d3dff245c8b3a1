from __future__ import annotations

import threading

import pytest

from t2i.logs import get_logger
from t2i.storage import BackgroundWriter


def test_a_slow_writer_gets_the_newest_and_holds_nobody_up():
    written: list[int] = []
    begun, may_go_on = threading.Event(), threading.Event()

    def write(value: int) -> None:
        begun.set()
        may_go_on.wait(10)
        written.append(value)

    writer = BackgroundWriter(write, "a number")
    writer.put(0)
    assert begun.wait(10)
    for value in range(1, 5):
        writer.put(value)  # returns although write() has not
    assert written == []
    may_go_on.set()
    writer.close()
    assert written == [0, 4]


def test_a_writer_that_hangs_is_left_behind():
    never = threading.Event()
    writer = BackgroundWriter(lambda value: never.wait(), "a number")
    writer.put(1)
    writer.close(seconds=0.01)


def test_errors_are_logged_once_until_they_clear(monkeypatch: pytest.MonkeyPatch):
    logged: list[str] = []
    monkeypatch.setattr(get_logger("train"), "warning", lambda text, *values: logged.append(text % values))
    done = threading.Semaphore(0)

    def write(value: str) -> None:
        try:
            if value == "bad":
                raise OSError("gone")
        finally:
            done.release()

    writer = BackgroundWriter(write, "a word")
    for value in ("bad", "bad", "good", "bad"):
        writer.put(value)
        assert done.acquire(timeout=10)
    writer.close()
    assert logged == ["could not write a word, and go on without: gone"] * 2
