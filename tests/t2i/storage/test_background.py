from __future__ import annotations

import threading
import time

from t2i.storage import BackgroundWriter


def test_a_slow_writer_gets_the_newest_and_holds_nobody_up() -> None:
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


def test_a_writer_that_hangs_is_left_behind() -> None:
    begun, released = threading.Event(), threading.Event()

    def hang(_: int) -> None:
        begun.set()
        released.wait()

    writer = BackgroundWriter(hang, "a number")
    writer.put(0)
    assert begun.wait(10)
    asked = time.monotonic()
    for value in range(1, 100):
        writer.put(value)
    assert time.monotonic() - asked < 1, "put() waited for the writer"
    asked = time.monotonic()
    writer.close(seconds=0.1)
    assert 0.1 <= time.monotonic() - asked < 5, "close() did not give up"
    assert writer._thread.is_alive(), "the writer was to hang"
    released.set()


def test_errors_are_logged_once_until_they_clear(train_warnings: list[str]) -> None:
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
    assert train_warnings == ["could not write a word, and go on without: gone"] * 2
