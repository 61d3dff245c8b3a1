"""Which rows a step takes: a pure function of the seed and the step, for any number of workers.

Data that does not fit into memory is shuffled as its parts (files) are: every epoch takes the parts in another order,
as many at a time as fill a window, and shuffles the rows within each window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Window = tuple[int, ...]
"""Numbers of the parts whose rows, one part after the other, are in memory together."""


@dataclass(frozen=True)
class Rows:
    """Some rows of one window, int64."""

    window: Window
    rows: np.ndarray


@dataclass(frozen=True)
class Epoch:
    """The windows of one epoch in order, and the epoch's rows before each, int64."""

    number: int
    windows: list[Window]
    starts: np.ndarray


class EpochSampler:
    """Shuffled epochs laid end to end and cut into global batches.

    Every row comes exactly once in each epoch; a batch may hold the end of one epoch and the start of the next.
    The global batch of a step does not depend on the number of workers that share it.
    """

    def __init__(self, parts: Sequence[int], global_batch: int, seed: int, window_rows: int = 0) -> None:
        """``parts`` are the numbers of rows of each; a window takes parts until it has ``window_rows``, 0 meaning all.

        Two epochs and one permutation are remembered: enough for a batch that goes over the end of either.
        """
        self._parts = np.asarray(parts, np.int64)
        self._n = int(self._parts.sum())
        self._global_batch = global_batch
        self._seed = seed
        self._window_rows = window_rows or self._n
        self._epochs: dict[int, Epoch] = {}
        self._shuffled: dict[tuple[int, int], np.ndarray] = {}

    def rows(self, step: int, rank: int = 0, world: int = 1) -> list[Rows]:
        """The global_batch / world rows of worker ``rank`` at ``step``, in order, by window."""
        share = self._global_batch // world
        start = step * self._global_batch + rank * share
        return list(self._between(start, start + share))

    def after(self, step: int) -> Window:
        """The window that comes after that of the last row of ``step``: what to make ready."""
        last = (step + 1) * self._global_batch - 1
        epoch = self._epoch(last // self._n)
        index = self._window_at(epoch, last % self._n) + 1
        return epoch.windows[index] if index < len(epoch.windows) else self._epoch(epoch.number + 1).windows[0]

    def _between(self, start: int, end: int) -> Iterator[Rows]:
        while start < end:
            epoch = self._epoch(start // self._n)
            index = self._window_at(epoch, start % self._n)
            first = epoch.number * self._n + int(epoch.starts[index])
            order = self._order(epoch, index)
            stop = min(end, first + len(order))
            yield Rows(epoch.windows[index], order[start - first : stop - first])
            start = stop

    def _window_at(self, epoch: Epoch, offset: int) -> int:
        return int(np.searchsorted(epoch.starts, offset, side="right")) - 1

    def _epoch(self, number: int) -> Epoch:
        if number not in self._epochs:
            order = np.random.default_rng([self._seed, number]).permutation(len(self._parts))
            windows = list(self._windows(order))
            rows = [int(self._parts[list(window)].sum()) for window in windows]
            self._epochs = {n: e for n, e in self._epochs.items() if n == number - 1}
            self._epochs[number] = Epoch(number, windows, np.cumsum([0, *rows[:-1]]))
        return self._epochs[number]

    def _windows(self, order: np.ndarray) -> Iterator[Window]:
        window: list[int] = []
        rows = 0
        for part in order:
            window.append(int(part))
            rows += int(self._parts[part])
            if rows >= self._window_rows:
                yield tuple(window)
                window, rows = [], 0
        if rows:
            yield tuple(window)

    def _order(self, epoch: Epoch, index: int) -> np.ndarray:
        key = (epoch.number, index)
        if key not in self._shuffled:
            rows = int(self._parts[list(epoch.windows[index])].sum())
            self._shuffled = {key: np.random.default_rng([self._seed, epoch.number, index]).permutation(rows)}
        return self._shuffled[key]
