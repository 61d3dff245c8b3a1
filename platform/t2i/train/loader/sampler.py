"""Which rows a step takes: a pure function of the seed and the step, for any number of workers.

Data that does not fit into memory is shuffled in two stages: every epoch takes the parts (files) in another order, so
many at a time as fill a window, and the rows of each window in another order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Window = tuple[int, ...]
"""The numbers of parts that are in memory together, their rows one part after the other."""


@dataclass(frozen=True)
class Rows:
    """Row numbers int64 in one window."""

    window: Window
    rows: np.ndarray


@dataclass(frozen=True)
class Epoch:
    """The windows of one epoch in order; ``starts`` int64 counts the epoch's rows before each."""

    number: int
    windows: list[Window]
    starts: np.ndarray


class EpochSampler:
    """Lays shuffled epochs end to end and cuts them into global batches, which the workers divide.

    With 4 parts, windows of 2, a global batch of 4 and 2 workers::

        epoch    |0                    |1
        window   |(2, 0)     |(1, 3)   |(3, 2)         parts, in another order in each epoch
        row       4 0 3 1 2 5 2 0 3 4 1 0 3 5 1 ...    shuffled within each window
        step     |0      |1      |2      |3            4 rows each, across the borders above
        worker   |0  |1  |0  |1  |0  |1  |0

    Every row comes exactly once in each epoch; a batch may span two windows, or two epochs. Which rows a step takes
    does not depend on the number of workers.
    """

    def __init__(self, parts: Sequence[int], global_batch: int, seed: int, window_rows: int = 0) -> None:
        """Sample from parts of which ``parts`` gives the numbers of rows.

        A window takes parts until it has ``window_rows``; 0 means all of them. The last two epochs and one window's
        order are remembered: enough for batches that span two epochs.
        """
        self._parts = np.asarray(parts, np.int64)
        self._n = int(self._parts.sum())
        self._global_batch = global_batch
        self._seed = seed
        self._window_rows = window_rows or self._n
        self._epochs: dict[int, Epoch] = {}
        self._shuffled: dict[tuple[int, int], np.ndarray] = {}

    def rows(self, step: int, rank: int = 0, world: int = 1) -> list[Rows]:
        """Return the global_batch / world rows of worker ``rank`` at ``step``, in order, by window."""
        count = self._global_batch // world
        start = step * self._global_batch + rank * count
        return list(self._rows_between(start, start + count))

    def next_window(self, step: int) -> Window:
        """Return the window to read ahead: the one after the window of the last row of ``step``."""
        last = (step + 1) * self._global_batch - 1
        epoch = self._epoch(last // self._n)
        index = self._window_at(epoch, last % self._n) + 1
        return epoch.windows[index] if index < len(epoch.windows) else self._epoch(epoch.number + 1).windows[0]

    def _rows_between(self, start: int, end: int) -> Iterator[Rows]:
        """Yield rows ``start`` to ``end`` of all epochs laid end to end, split where a window ends."""
        while start < end:
            epoch = self._epoch(start // self._n)
            index = self._window_at(epoch, start % self._n)
            first = epoch.number * self._n + int(epoch.starts[index])  # of the window, among the rows of all epochs
            order = self._order(epoch, index)
            stop = min(end, first + len(order))
            yield Rows(epoch.windows[index], order[start - first : stop - first])
            start = stop

    def _window_at(self, epoch: Epoch, offset: int) -> int:
        """Return the index of the window that holds the epoch's row ``offset``."""
        return int(np.searchsorted(epoch.starts, offset, side="right")) - 1

    def _epoch(self, number: int) -> Epoch:
        """Return epoch ``number``; the last two stay in memory."""
        if number not in self._epochs:
            order = np.random.default_rng([self._seed, number]).permutation(len(self._parts))
            windows = list(self._windows(order))
            rows = [int(self._parts[list(window)].sum()) for window in windows]
            self._epochs = {n: e for n, e in self._epochs.items() if n == number - 1}
            self._epochs[number] = Epoch(number, windows, np.cumsum([0, *rows[:-1]]))
        return self._epochs[number]

    def _windows(self, order: np.ndarray) -> Iterator[Window]:
        """Yield the parts in ``order`` int64, grouped into windows of at least ``window_rows`` rows but the last."""
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
        """Return the shuffled row numbers of an epoch's window, int64; the last one asked for is remembered."""
        key = (epoch.number, index)
        if key not in self._shuffled:
            rows = int(self._parts[list(epoch.windows[index])].sum())
            self._shuffled = {key: np.random.default_rng([self._seed, epoch.number, index]).permutation(rows)}
        return self._shuffled[key]
