"""The batches of the steps to come, made ready in the background."""

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
"""A batch may hold the end of one window and the beginning of the next."""


class Source(Protocol):
    """Where a worker gets training data from: parts of known sizes, read some at a time."""

    @property
    def parts(self) -> Sequence[int]:
        """The number of rows of each part."""

    def load(self, window: Window) -> Columns:
        """The rows of the window's parts, one part after the other."""

    def expect(self, window: Window) -> None:
        """``window`` will be loaded soon."""


@dataclass(frozen=True)
class InMemorySource:
    """Columns that are there already: one part."""

    columns: Columns

    @property
    def parts(self) -> Sequence[int]:
        return [len(next(iter(self.columns.values())))]

    def load(self, window: Window) -> Columns:
        return self.columns

    def expect(self, window: Window) -> None:
        """Nothing is left to do."""


@dataclass(frozen=True)
class Share:
    """One worker's part of an update, as micro-batches, and the noise of the rows of each."""

    batches: list[Batch]
    noise: list[Noise]


class Feed:
    """One worker's shares, a pure function of the step; ``waited`` is how long the last was waited for, in seconds."""

    def __init__(
        self, task: Task, model: nn.Module, source: Source, config: TrainConfig, rank: int, world: int, pin: bool
    ) -> None:
        self.waited = 0.0
        self._task, self._model, self._source, self._config = task, model, source, config
        self._rank, self._world, self._pin = rank, world, pin
        self._sampler = EpochSampler(source.parts, config.batch_size, config.seed, config.window_rows)
        self._windows: OrderedDict[Window, Columns] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, "feed")
        self._ahead: dict[int, Future[Share]] = {}

    def share(self, step: int) -> Share:
        """This worker's rows of ``step``; those of the next steps begin to be made ready."""
        begun = time.monotonic()
        for number in range(step, min(step + self._config.prefetch, self._config.steps - 1) + 1):
            if number not in self._ahead:
                self._ahead[number] = self._thread.submit(self._make, number)
        share = self._ahead.pop(step).result()
        self.waited = time.monotonic() - begun
        return share

    def close(self) -> None:
        """Drop what is ahead and end the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _make(self, step: int) -> Share:
        rows = self._config.batch_size // self._world
        noise = Noise.of_step(self._config.seed, step, self._config.batch_size)[self._rank * rows :][:rows]
        batches, done = [], 0
        for piece in self._sampler.rows(step, self._rank, self._world):
            columns = self._columns(piece.window, step)
            batches.append(self._task.batch(columns, piece.rows, noise[done : done + len(piece.rows)]))
            done += len(piece.rows)
        full_tensor = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        size = rows // self._config.accumulate
        slices = [slice(start, start + size) for start in range(0, rows, size)]
        return Share([self._cut(full_tensor, part) for part in slices], [noise[part] for part in slices])

    def _cut(self, batch: Batch, rows: slice) -> Batch:
        part = {name: tensor[rows] for name, tensor in batch.items()}
        return {name: tensor.pin_memory() for name, tensor in part.items()} if self._pin else part

    def _columns(self, window: Window, step: int) -> Columns:
        """A window's prepared columns; on a new one, the source hears which will be next."""
        if window not in self._windows:
            self._windows[window] = self._task.prepare(self._source.load(window), self._model)
            while len(self._windows) > WINDOWS_HELD:
                self._windows.popitem(last=False)
            self._source.expect(self._sampler.after(step))
        return self._windows[window]
