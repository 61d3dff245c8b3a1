"""Training data in Ray's object store: one copy on each node, shared by its workers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.data import Dataset
from ray.exceptions import RayError

from t2i.data import Shards, load_columns
from t2i.logs import get_logger
from t2i.train.loader.feed import Source
from t2i.train.loader.sampler import Window
from t2i.train.tasks.base import Columns

WINDOWS_HELD = 3
"""Windows kept by the reader: the one trained on, the next, and one that a slower worker may still ask for."""


@dataclass(frozen=True)
class StoredSource:
    """A training set that is in the object store as a whole."""

    columns: ray.ObjectRef[Columns]
    parts: Sequence[int]

    @classmethod
    def put(cls, dataset: Dataset) -> StoredSource:
        """Gather ``dataset`` into memory and store it."""
        columns = load_columns(dataset)
        return cls(ray.put(columns), [len(columns["id"])])

    def load(self, window: Window) -> Columns:  # noqa: ARG002  there is one window
        """Return all columns, from this node's copy."""
        return ray.get(self.columns)

    def expect(self, window: Window) -> None:
        """Do nothing: all is stored."""


class WindowReader:
    """An actor that reads windows of a training set and keeps the newest few; after a restart it reads again."""

    def __init__(self, parts: Shards) -> None:
        self._parts = parts
        self._windows: OrderedDict[Window, ray.ObjectRef[Columns]] = OrderedDict()

    def window(self, window: Window) -> list[ray.ObjectRef[Columns]]:
        """Return a reference to the rows of ``window``, in a list: Ray resolves a bare one."""
        if window not in self._windows:
            self._windows[window] = ray.put(self._parts.read(window))
            while len(self._windows) > WINDOWS_HELD:
                self._windows.popitem(last=False)
        self._windows.move_to_end(window)
        return [self._windows[window]]


@dataclass(frozen=True)
class WindowedSource:
    """A training set that is read a window at a time, by one process for all workers."""

    reader: Any
    parts: Sequence[int]

    @classmethod
    def of(cls, parts: Shards) -> WindowedSource:
        """Start the reader of ``parts``; it ends when the last copy of this source is gone."""
        actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(WindowReader)
        return cls(actor.remote(parts), parts.rows)

    def load(self, window: Window) -> Columns:
        """Return the rows of ``window``, read again if the node that held them is lost."""
        while True:
            try:
                columns: Columns = ray.get(ray.get(self.reader.window.remote(window))[0])
                return columns
            except (ray.exceptions.ObjectLostError, ray.exceptions.ActorUnavailableError) as error:
                get_logger("train").warning("reading a window of the training set again: %s", _first_line(error))

    def expect(self, window: Window) -> None:
        """Have the reader read ``window`` now, without waiting."""
        self.reader.window.remote(window)


def source_of(train: Dataset | Shards) -> Source:
    """Store a data set as a whole, or start a reader of one that is read in windows."""
    return StoredSource.put(train) if isinstance(train, Dataset) else WindowedSource.of(train)


def _first_line(error: RayError) -> str:
    return str(error).splitlines()[0]
