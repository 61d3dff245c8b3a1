"""Training data in Ray's object store: one copy on each node, whichever workers are there."""

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
"""The one that is trained on, the next, and one that a slower worker may still ask for."""


@dataclass(frozen=True)
class StoredSource:
    """A data set that is stored as a whole."""

    columns: ray.ObjectRef
    parts: Sequence[int]

    @classmethod
    def put(cls, dataset: Dataset) -> StoredSource:
        """Gather ``dataset``."""
        columns = load_columns(dataset)
        return cls(ray.put(columns), [len(columns["id"])])

    def load(self, window: Window) -> Columns:
        return ray.get(self.columns)

    def expect(self, window: Window) -> None:
        """It is there already."""


class WindowReader:
    """An actor that reads windows of a training set, and holds the newest few; lost, it reads them again."""

    def __init__(self, parts: Shards) -> None:
        self._parts = parts
        self._windows: OrderedDict[Window, ray.ObjectRef] = OrderedDict()

    def window(self, window: Window) -> list[ray.ObjectRef]:
        """A reference to the rows of ``window``, in a list so that the caller gets the reference itself."""
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
        """The windows of ``parts``; the reader goes with the last copy of this."""
        actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(WindowReader)
        return cls(actor.remote(parts), parts.rows)

    def load(self, window: Window) -> Columns:
        while True:
            try:
                return ray.get(ray.get(self.reader.window.remote(window))[0])
            except (ray.exceptions.ObjectLostError, ray.exceptions.ActorUnavailableError) as error:
                get_logger("train").warning("reading a window of the training set again: %s", _first_line(error))

    def expect(self, window: Window) -> None:
        self.reader.window.remote(window)


def source_of(train: Dataset | Shards) -> Source:
    """What workers read the training set from."""
    return StoredSource.put(train) if isinstance(train, Dataset) else WindowedSource.of(train)


def _first_line(error: RayError) -> str:
    return str(error).splitlines()[0]
