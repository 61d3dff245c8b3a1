"""The microbatches of one worker, made in the background before their step comes."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from t2i.train.config import TrainConfig
from t2i.train.loader.sampler import EpochSampler, Window
from t2i.train.noise import Noise
from t2i.train.tasks.base import Batch, Columns, Task

WINDOWS_HELD = 2
"""Prepared windows kept in memory: a batch may hold the end of one and the beginning of the next."""


class Source(Protocol):
    """A training set of parts (files) of known sizes, of which a window is in memory at a time."""

    @property
    def parts(self) -> Sequence[int]:
        """The number of rows of each part."""

    def load(self, window: Window) -> Columns:
        """Return the rows of the window's parts, one part after the other."""

    def expect(self, window: Window) -> None:
        """Begin to read ``window``, which will be loaded soon."""


@dataclass(frozen=True)
class InMemorySource:
    """A training set of one part that is in memory as a whole."""

    columns: Columns

    @property
    def parts(self) -> Sequence[int]:
        """The number of rows, in a list."""
        return [len(next(iter(self.columns.values())))]

    def load(self, window: Window) -> Columns:  # noqa: ARG002  there is one window
        """Return all columns."""
        return self.columns

    def expect(self, window: Window) -> None:
        """Do nothing: all is in memory."""


@dataclass(frozen=True)
class Microbatch:
    """Rows of one forward and backward pass, and their noise."""

    batch: Batch
    noise: Noise


class Feed:
    """Makes one worker's microbatches of each step, a pure function of the step, ahead of time in a thread.

    ``waited`` is how long the training thread had to wait for the last ones, in seconds.
    """

    def __init__(
        self, task: Task, model: nn.Module, source: Source, config: TrainConfig, rank: int, world: int, pin: bool
    ) -> None:
        self.waited = 0.0
        self._task, self._model, self._source, self._config = task, model, source, config
        self._rank, self._world, self._pin = rank, world, pin
        self._sampler = EpochSampler(source.parts, config.batch_size, config.seed, config.window_rows)
        self._windows: OrderedDict[Window, Columns] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, "feed")
        self._ahead: dict[int, Future[list[Microbatch]]] = {}

    def microbatches(self, step: int) -> list[Microbatch]:
        """Return this worker's microbatches of ``step``, and start making the next steps' microbatches.

        ::

            training thread    step 7 ─────────────> step 8 ─────────────> step 9
                                  │ asks for 7, 8, 9    │ asks for 10         (prefetch = 2)
            feed thread           └> [7][8][9] idle     └> [10] idle

        The one thread takes the steps in order, so that windows are loaded in order, and what is asked for without
        prefetching (0) is only what is waited for. Nothing is made beyond the last step.
        """
        begun = time.monotonic()
        last_step = self._config.steps - 1
        for number in range(step, min(step + self._config.prefetch, last_step) + 1):
            if number not in self._ahead:
                self._ahead[number] = self._thread.submit(self._make, number)
        microbatches = self._ahead.pop(step).result()
        self.waited = time.monotonic() - begun
        return microbatches

    def close(self) -> None:
        """Drop the steps that are not made yet and end the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _make(self, step: int) -> list[Microbatch]:
        """Return this worker's microbatches of a step: its rows, window by window, joined and cut up."""
        rows = self._config.batch_size // self._world
        noise = Noise.of_step(self._config.seed, step, self._config.batch_size)[self._rank * rows :][:rows]
        batches, done = [], 0
        for piece in self._sampler.rows(step, self._rank, self._world):
            columns = self._columns(piece.window, step)
            batches.append(self._task.batch(columns, piece.rows, noise[done : done + len(piece.rows)]))
            done += len(piece.rows)
        joined = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        size = rows // self._config.accumulate
        slices = [slice(start, start + size) for start in range(0, rows, size)]
        return [Microbatch(self._cut(joined, chosen), noise[chosen]) for chosen in slices]

    def _cut(self, batch: Batch, rows: slice) -> Batch:
        """Return some rows of a batch, in pinned memory if a GPU is to copy them while it computes."""
        cut = {name: tensor[rows] for name, tensor in batch.items()}
        return {name: tensor.pin_memory() for name, tensor in cut.items()} if self._pin else cut

    def _columns(self, window: Window, step: int) -> Columns:
        """Return the prepared columns of a window; if it is a new one, the source begins to read the next."""
        if window not in self._windows:
            self._windows[window] = self._task.prepare(self._source.load(window), self._model)
            while len(self._windows) > WINDOWS_HELD:
                self._windows.popitem(last=False)
            self._source.expect(self._sampler.next_window(step))
        return self._windows[window]
