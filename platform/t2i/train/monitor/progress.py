"""The progress line in the driver's terminal: how many steps the workers have trained."""

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
"""Seconds between printed lines where the output is no terminal; on S3, also between writes or reads of progress."""


@dataclass(frozen=True)
class StepProgress:
    """The number of steps done, and the newest loss; None until one is logged."""

    step: int
    loss: float | None


@contextmanager
def show_progress(run: RunDirectory, steps: int, title: str) -> Iterator[None]:
    """While the block runs, print the progress that the first worker writes to ``progress.json``."""
    run.write_progress({})
    ended = threading.Event()
    thread = threading.Thread(target=_follow, args=(run, ProgressLine(steps, title), ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _follow(run: RunDirectory, line: ProgressLine, ended: threading.Event) -> None:
    """Print the run's progress again and again until ``ended`` is set, and once more after that."""
    last = False
    while not last:
        last = ended.wait(poll_seconds(run))  # one more round after the end shows the last step
        with suppress(UserError):  # a store that fails now may answer next time: training must not stop for it
            progress = run.read_progress()
            if "step" in progress:
                line.show(StepProgress(**progress), last)


def poll_seconds(run: RunDirectory) -> float:
    """Return the seconds between two writes or reads of ``progress.json``: more on S3 than on a local disk."""
    return 0.5 if run.is_local else LINE_SECONDS


class ProgressLine:
    """Prints a line of steps, time, speed and loss: rewritten in place on a terminal, else a new one every 10 s."""

    def __init__(self, steps: int, title: str) -> None:
        self._steps, self._title = steps, title
        self._terminal = sys.stderr.isatty()
        self._begun, self._first_step = 0.0, -1
        self._next_line = 0.0

    def show(self, progress: StepProgress, last: bool = False) -> None:
        """Print ``progress``; without a terminal, only if the previous line is 10 s old or this is the ``last`` one."""
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
        """Return the line; its speed leaves out the steps done before the first one shown, as in a resumed run."""
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
