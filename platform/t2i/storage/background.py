"""Write values in the background, for output that is useful but must not hold up its producer (such as progress)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from models.errors import UserError
from t2i.logs import get_logger

T = TypeVar("T")


class BackgroundWriter(Generic[T]):
    """Pass values to a slow ``write`` function on a thread of its own.

    :meth:`put` returns at once. Only the newest value waits: one that is replaced before its turn is never written.
    OSError and UserError are logged and not raised; of a series of failures only the first is logged.
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
        """Write ``value`` soon, unless a newer one replaces it before its turn."""
        with self._changed:
            self._waiting = [value]
            self._changed.notify()

    def close(self, seconds: float = 10.0) -> None:
        """Wait until the newest value is written, for at most ``seconds``."""
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
