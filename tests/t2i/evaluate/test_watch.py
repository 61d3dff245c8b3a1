"""Every checkpoint is measured once, also those that training deletes meanwhile."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.errors import UserError
from t2i.engine import TextToImage
from t2i.evaluate import watch as module
from t2i.evaluate.figures import Figure
from t2i.evaluate.watch import DONE, WatchedRun, curve_points, watch
from t2i.storage import fetch_run, filesystem_for


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)


class Training:
    """A run whose training keeps one checkpoint, and writes the next whenever the watcher begins to measure one."""

    def __init__(self, run: Path, steps: Sequence[int]) -> None:
        self.run, self.coming = run, [f"step_{step:07}" for step in steps]
        self.there = [self.coming.pop(0)]
        self.exported: list[str] = []

    def next(self) -> None:
        """Write a checkpoint that is not complete at once, and delete the one before it."""
        if self.coming:
            self.there = [self.coming.pop(0)]
            deadline = time.monotonic() + 20
            while self.there[0] not in self.exported and time.monotonic() < deadline:
                time.sleep(0.01)

    def export(self, name: str, directory: Path) -> None:
        if not self.exported or self.exported[-1] != f"tried {name}":
            self.exported.append(f"tried {name}")
            raise UserError("it is not complete")
        shutil.copytree(self.run / "prior" / "model", directory)
        self.exported.append(name)

    def watched(self) -> WatchedRun:
        return WatchedRun(
            str(self.run),
            lambda: self.there,
            lambda name: int(name.removeprefix("step_")),
            self.export,
            lambda: not self.coming and self.there[0] in self.exported,
        )


def figures(value: float) -> list[Figure]:
    return [Figure("kid", subject, "real", value, None, 1, 1, blur) for subject in ("best", "real") for blur in (0, 2)]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


def test_no_checkpoint_is_lost_however_fast_they_come(run: Path, tmp_path: Path) -> None:
    training, measured = Training(run, [100, 200, 300]), []

    def evaluate(copy: str, out: str) -> Mapping[str, Sequence[Figure]]:
        TextToImage.load(copy, slots=2)  # a whole run, with the checkpoint's prior
        measured.append((Path(copy).name, Path(out).name))
        training.next()
        return {"val": figures(len(measured))}

    watch(training.watched(), f"{tmp_path}/out", evaluate)
    assert measured == [(name, name) for name in ("step_0000100", "step_0000200", "step_0000300")]
    assert list((tmp_path / "out" / "models").iterdir()) == []
    events = EventAccumulator(str(run / "prior" / "logs" / "eval"))
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars("eval/val/kid/best")]
    assert points == [(100, 1.0), (200, 2.0), (300, 3.0)]


def test_copies_are_where_all_nodes_see_them(run: Path, tmp_path: Path) -> None:
    out, read = f"memory://{tmp_path.name}/out", []

    def evaluate(copy: str, _: str) -> Mapping[str, Sequence[Figure]]:
        TextToImage.load(fetch_run(copy), slots=2)
        read.append(copy)
        return {}

    watch(Training(run, [100]).watched(), out, evaluate)
    assert read == [f"{out}/models/step_0000100"]
    filesystem, path = filesystem_for(out)
    assert not [left for left in filesystem.find(path) if "/models/" in left]


def test_what_is_measured_is_not_measured_again(run: Path, tmp_path: Path) -> None:
    training = Training(run, [100])
    done = tmp_path / "out" / "step_0000100" / DONE
    done.parent.mkdir(parents=True)
    done.write_text("{}")
    training.exported.append("step_0000100")
    watch(training.watched(), f"{tmp_path}/out", lambda *_: pytest.fail("measured again"))


def test_a_watcher_that_was_killed_goes_on_with_the_copies_it_had_made(run: Path, tmp_path: Path) -> None:
    training, measured = Training(run, [200]), []
    shutil.copytree(run, tmp_path / "out" / "models" / "step_0000100")  # its checkpoint was deleted since

    def evaluate(copy: str, _: str) -> Mapping[str, Sequence[Figure]]:
        measured.append(Path(copy).name)
        return {}

    watch(training.watched(), f"{tmp_path}/out", evaluate)
    assert measured == ["step_0000100", "step_0000200"]
    assert json.loads((tmp_path / "out" / "step_0000200" / DONE).read_text()) == {}


def test_curves_are_those_of_drawn_images_without_blur() -> None:
    assert curve_points({"val": figures(1.5), "test": []}) == {"val/kid/best": 1.5}
