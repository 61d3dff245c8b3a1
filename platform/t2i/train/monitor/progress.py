"""One calm line in the driver's terminal about workers that run elsewhere."""

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


@dataclass(frozen=True)
class StepProgress:
    """Steps done, and the newest loss."""

    step: int
    loss: float | None


@contextmanager
def shown(run: RunDirectory, steps: int, title: str) -> Iterator[None]:
    """Show what the first worker writes of its progress while the block runs."""
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
        last = closed.wait(poll_seconds(run))
        with suppress(UserError):  # what cannot be read now is shown later: a line for the eye stops no run
            progress = run.read_progress()
            if "step" in progress:
                line.show(StepProgress(**progress), last)


def poll_seconds(run: RunDirectory) -> float:
    """How often progress is written and read: S3 is asked less often than a disk."""
    return 0.5 if run.is_local else LINE_SECONDS


class ProgressLine:
    """Steps, time gone and left, rate and loss: rewritten in place on a terminal, elsewhere a line every ten s."""

    def __init__(self, steps: int, title: str) -> None:
        self._steps, self._title = steps, title
        self._terminal = sys.stderr.isatty()
        self._begun, self._first_step = 0.0, -1
        self._next_line = 0.0

    def show(self, progress: StepProgress, last: bool = False) -> None:
        """Print ``progress``, unless the line before is too fresh; the ``last`` is always printed."""
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
        """The line itself; the rate counts from the first step seen, so a resumed run does not boast."""
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
