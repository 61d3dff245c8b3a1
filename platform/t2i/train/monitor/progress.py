"""The line in the driver's terminal that shows how far the workers are."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tqdm import tqdm

from models.errors import UserError
from t2i.train.checkpoint.run_directory import RunDirectory

LINE_SECONDS = 10.0
"""From one line to the next, where there is no terminal to rewrite it in."""


@dataclass(frozen=True)
class StepProgress:
    """Steps done, and the newest loss, if any has been logged."""

    step: int
    loss: float | None


@contextmanager
def show_progress(run: RunDirectory, steps: int, title: str) -> Iterator[None]:
    """Show what the first worker writes to ``progress.json`` while the block runs."""
    run.write_progress({})
    closed = threading.Event()
    thread = threading.Thread(target=_follow, args=(run, ProgressLine(steps, title), closed), daemon=True)
    thread.start()
    try:
        yield
    finally:
        closed.set()
        thread.join()


def _follow(run: RunDirectory, line: ProgressLine, closed: threading.Event) -> None:
    last = False
    while not last:
        last = closed.wait(poll_seconds(run))  # once more after the end, so that the last step is shown
        with suppress(UserError):  # a store that does not answer now may answer next time: no reason to stop a run
            progress = run.read_progress()
            if "step" in progress:
                line.show(StepProgress(**progress), last)


def poll_seconds(run: RunDirectory) -> float:
    """Return the seconds between two writes or reads of progress: more on S3 than on a disk."""
    return 0.5 if run.is_local else LINE_SECONDS


class ProgressLine:
    """Prints steps, time spent and left, rate and loss: one line, rewritten on a terminal, elsewhere every 10 s."""

    def __init__(self, steps: int, title: str) -> None:
        self._steps, self._title = steps, title
        self._terminal = sys.stderr.isatty()
        self._begun, self._first_step = 0.0, -1
        self._next_line = 0.0

    def show(self, progress: StepProgress, last: bool = False) -> None:
        """Print ``progress``, unless a line was printed less than 10 s ago; the ``last`` is always printed."""
        now = time.monotonic()
        if self._first_step < 0:
            self._begun, self._first_step = now, progress.step
        if self._terminal:
            end = "\n" if last else ""
            print(f"\r{self.text(progress, now)}\033[K", end=end, file=sys.stderr, flush=True)
        elif last or now >= self._next_line:
            self._next_line = now + LINE_SECONDS
            print(self.text(progress, now), file=sys.stderr, flush=True)

    def text(self, progress: StepProgress, now: float) -> str:
        """Return the line; the rate counts from the first step shown, so that a resumed run's is its own."""
        loss = None if progress.loss is None else f"loss {progress.loss:.4f}"
        return tqdm.format_meter(
            progress.step,
            self._steps,
            now - self._begun,
            ncols=100,
            prefix=self._title,
            unit=" steps",
            postfix=loss,
            initial=self._first_step,
        )
