"""Evaluation beside training: each checkpoint of a run is measured on the same small set; the figures are curves."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.errors import UserError
from models.run_layout import RunLayout
from t2i.evaluate.figures import Figure
from t2i.logs import get_logger
from t2i.storage import (
    delete_folder,
    fetch_directory,
    file_info,
    filesystem_for,
    is_local,
    put_directory,
    write_file,
)

log = get_logger("evaluate")

POLL_SECONDS = 5.0
"""Seconds between two looks for new checkpoints."""

DONE = "watched.json"
"""The file in a checkpoint's folder that says that it was measured."""


@dataclass(frozen=True)
class WatchedRun:
    """A run whose prior is in training, as the watcher sees it.

    ``names`` lists its checkpoints, oldest first; ``step_of`` says how many steps one has trained; ``export`` copies
    the model of one into a local directory, and raises UserError or OSError if it is not complete, or is gone;
    ``finished`` is whether no more will come.
    """

    run: str
    names: Callable[[], Sequence[str]]
    step_of: Callable[[str], int]
    export: Callable[[str, Path], object]
    finished: Callable[[], bool]


class Spool:
    """Copies of the models of all checkpoints that are not measured yet, in the local folder ``folder``.

    A thread of its own makes them, since training deletes old checkpoints while others are measured. What is measured
    is recorded under ``out``, so that a watcher that was killed goes on with the rest.
    """

    def __init__(self, watched: WatchedRun, folder: Path, out: str) -> None:
        self._watched, self._folder, self._out = watched, folder, out
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def runs(self) -> Iterator[tuple[str, str]]:
        """Yield (checkpoint, run directory with its model) as they come, oldest first, until training has ended."""
        while True:
            last = not self._thread.is_alive()
            waiting = sorted(path.name for path in self._folder.iterdir() if not path.name.startswith("."))
            if waiting:
                yield waiting[0], str(self._folder / waiting[0])
            elif last:
                return
            else:
                self._changed.wait(POLL_SECONDS)
                self._changed.clear()

    def done(self, name: str, figures: Mapping[str, float]) -> None:
        """Record that a checkpoint is measured, and delete its copy."""
        write_file(*filesystem_for(f"{self._out}/{name}/{DONE}"), json.dumps(dict(figures), indent=1).encode())
        shutil.rmtree(self._folder / name)

    def _follow(self) -> None:
        while True:
            last = self._watched.finished()  # asked before the checkpoints, so that the last one is not overlooked
            for name in self._watched.names():
                self._copy(name)
            if last:
                return
            time.sleep(POLL_SECONDS)

    def _copy(self, name: str) -> None:
        if (self._folder / name).exists() or self._is_done(name):
            return
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".") as partial:
            copy = RunLayout(Path(partial) / name)
            try:
                self._watched.export(name, Path(copy.prior))
            except (UserError, OSError):
                return  # it is still being written, or was deleted; a complete one is looked for again
            for model in ("tokenizer", "dvae", "clip"):
                target = Path(copy.models[model])
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(fetch_directory(RunLayout(self._watched.run).models[model]).resolve())
            Path(copy.run).rename(self._folder / name)
        self._changed.set()

    def _is_done(self, name: str) -> bool:
        filesystem, path = filesystem_for(f"{self._out}/{name}/{DONE}")
        return file_info(filesystem, path).is_file


def watch(watched: WatchedRun, out: str, evaluate: Callable[[str, str], Mapping[str, Sequence[Figure]]]) -> None:
    """Measure every checkpoint of a run, the oldest first, until its training has ended.

    Args:
        watched: the run.
        out: folder of the evaluations, one for each checkpoint, and of the copies of models.
        evaluate: called with a run directory and the folder for its report; returns caption set -> figures.
    """
    folder = Path(out, "models") if is_local(filesystem_for(out)[0]) else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    curves = Curves(f"{watched.run}/prior/logs/eval")
    spool = Spool(watched, folder, out)
    for name, run in spool.runs():
        with on_all_nodes(run, f"{out}/models/{name}") as everywhere:
            scalars = curve_points(evaluate(everywhere, f"{out}/{name}"))
        curves.add(watched.step_of(name), scalars)
        spool.done(name, scalars)
        log.info("%s: %s", name, ", ".join(f"{key} {value:.4g}" for key, value in headline(scalars).items()))


@contextmanager
def on_all_nodes(run: str, uri: str) -> Iterator[str]:
    """Yield where all nodes read a local run: itself if ``uri`` is local, else a copy there, which is then deleted."""
    filesystem, path = filesystem_for(uri)
    if is_local(filesystem):
        yield run
        return
    for name, directory in RunLayout(run).models.items():
        put_directory(directory, RunLayout(uri).models[name])
    yield uri
    delete_folder(filesystem, path)


def curve_points(figures: Mapping[str, Sequence[Figure]]) -> dict[str, float]:
    """Return the values of drawn images without blur by the names of their curves: ``<set>/<metric>/<subject>``."""
    return {
        f"{caption_set}/{figure.metric}/{figure.subject}": figure.value
        for caption_set, found in figures.items()
        for figure in found
        if figure.blur == 0 and figure.subject in ("best", "first")
    }


def headline(scalars: Mapping[str, float]) -> dict[str, float]:
    """Return what is worth a line in the log: kernel distance and CLIP score of the best."""
    return {
        key: value
        for key, value in scalars.items()
        if key.endswith("/best") and key.split("/")[1].startswith(("kid", "clip_score"))
    }


class Curves:
    """TensorBoard curves in the folder ``uri``, beside those of training; each point is there once it is added."""

    def __init__(self, uri: str) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds

        self._uri = uri
        self._local = Path(tempfile.mkdtemp())
        self._writer = SummaryWriter(self._local)

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a point to each curve, and copy the events to where they are read."""
        for name, value in scalars.items():
            self._writer.add_scalar(f"eval/{name}", value, step)
        self._writer.flush()
        filesystem, folder = filesystem_for(self._uri)
        for file in self._local.iterdir():
            write_file(filesystem, f"{folder}/{file.name}", file.read_bytes())
