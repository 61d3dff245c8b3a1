"""Writing what is worth having but not worth waiting for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from models.errors import UserError
from t2i.logs import get_logger

T = TypeVar("T")


class BackgroundWriter(Generic[T]):
    """Hands values to a slow ``write`` on a thread of its own.

    :meth:`put` returns at once. A value that a newer one overtakes is never written; an error is logged when it first
    occurs and not again until a write has succeeded, and is otherwise forgotten.
    """

    def __init__(self, write: Callable[[T], None], what: str) -> None:
        self._write, self._what = write, what
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._closed = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, value: T) -> None:
        """Have ``value`` written some time, unless a newer one comes first."""
        with self._changed:
            self._waiting = [value]
            self._changed.notify()

    def close(self, seconds: float = 10.0) -> None:
        """Wait until the newest value is written, but not longer than this."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                value = self._waiting.pop()
            self._attempt(value)

    def _attempt(self, value: T) -> None:
        try:
            self._write(value)
        except (OSError, UserError) as error:
            if not self._failing:
                get_logger("train").warning("could not write %s, and go on without: %s", self._what, error)
            self._failing = True
        else:
            self._failing = False
