"""Where curves and pictures go besides TensorBoard: MLflow or Weights & Biases, by ``train.tracker``.

A tracker is a guest: it is talked to from a thread of its own, and whatever it does, training neither waits nor stops.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

from torch import Tensor

from models.errors import UserError
from models.settings import setting
from t2i.logs import get_logger
from t2i.storage import filesystem_for, write_file
from t2i.train.monitor.tensorboard import picture_file, to_pixels

QUEUE = 1000
"""Messages that may wait for a slow tracker; what comes after them is dropped."""

RETRY_SECONDS = 60.0
"""How long a tracker that could not be reached is left alone."""

FINISH_SECONDS = 30.0
"""How long the end of a run waits for the last messages to arrive."""


@dataclass
class TrackerConfig:
    """An experiment tracker, if any."""

    tracker: str = setting("none", "none (TensorBoard alone), mlflow or wandb: where curves and pictures go as well")
    tracker_project: str = setting("t2i", "MLflow's experiment, or Weights & Biases' project")
    tracker_uri: str | None = setting(None, "the tracker's address; empty: MLFLOW_TRACKING_URI or WANDB_BASE_URL")

    def __post_init__(self) -> None:
        check_tracker(self.tracker)


class Tracker(Protocol):
    """Something that keeps a run's curves. Every method may raise whatever its library raises."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Keep scalars by name, such as ``train/loss``."""

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Keep pictures float [3, H, W] in [0, 1] by name."""

    def finish(self) -> None:
        """The run is over, or will go on in another process."""


class RunIds:
    """Which of a tracker's runs is ours, so that a resumed run goes on in it: ``tracker.json`` in the run directory."""

    def __init__(self, run_uri: str) -> None:
        self._filesystem, path = filesystem_for(run_uri)
        self._file = f"{path}/tracker.json"

    def get(self, tracker: str) -> str | None:
        """The id kept for ``tracker``, if any."""
        return self._all().get(tracker)

    def keep(self, tracker: str, run_id: str) -> None:
        """Remember it."""
        write_file(self._filesystem, self._file, json.dumps(self._all() | {tracker: run_id}).encode())

    def _all(self) -> dict[str, str]:
        if not self._filesystem.get_file_info(self._file).is_file:
            return {}
        with self._filesystem.open_input_file(self._file) as file:
            return json.loads(file.read())


class MLflow:
    """A run in MLflow. Curves and pictures of a resumed run go on in the same one."""

    def __init__(self, config: TrackerConfig, name: str, run_id: str | None) -> None:
        # MLflow would try for minutes; these are read at each request.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from mlflow import MlflowClient  # takes seconds

        self._client = MlflowClient(config.tracker_uri)
        self.run_id = run_id or self._create(config.tracker_project, name)
        self._client.update_run(self.run_id, status="RUNNING")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self.run_id, [Metric(name, value, now, step) for name, value in values.items()])

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        for name, picture in pictures.items():
            self._client.log_image(self.run_id, to_pixels(picture), f"pictures/{picture_file(name, step)}")

    def finish(self) -> None:
        self._client.set_terminated(self.run_id)

    def _create(self, project: str, name: str) -> str:
        experiment = self._client.get_experiment_by_name(project)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(project)
        return self._client.create_run(experiment_id, run_name=name).info.run_id


class Wandb:
    """A run in Weights & Biases; offline with ``WANDB_MODE=offline``."""

    def __init__(self, config: TrackerConfig, name: str, run_id: str | None) -> None:
        import wandb  # takes seconds

        self._wandb: Any = wandb
        self.run_id = run_id or uuid.uuid4().hex[:12]
        settings = wandb.Settings(base_url=config.tracker_uri) if config.tracker_uri else None
        self._run = wandb.init(
            project=config.tracker_project, name=name, id=self.run_id, resume="allow", settings=settings
        )
        # Its own count may never go back, which a run resumed from a checkpoint does.
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        images = {name: self._wandb.Image(to_pixels(picture)) for name, picture in pictures.items()}
        self._run.log({"step": step, **images})

    def finish(self) -> None:
        self._run.finish()


OPENERS: dict[str, Callable[[TrackerConfig, str, str | None], MLflow | Wandb]] = {"mlflow": MLflow, "wandb": Wandb}


def check_tracker(tracker: str) -> None:
    """Refuse a tracker that is unknown, or not installed here.

    Raises:
        UserError: it is one of those.
    """
    if tracker not in ("none", *OPENERS):
        raise UserError(f"train.tracker is {tracker!r}: use none, {' or '.join(OPENERS)}.")
    if tracker != "none" and find_spec(tracker) is None:
        raise UserError(f"train.tracker is {tracker}, not installed here: pip install 't2i-platform[{tracker}]'.")


def open_tracker(config: TrackerConfig, name: str, run_uri: str) -> Tracker | None:
    """The tracker of ``config`` for the run ``name`` in ``run_uri``, or None; it is reached later, by a thread.

    Raises:
        UserError: its package is not installed.
    """
    check_tracker(config.tracker)  # once more: the driver's environment need not be this worker's
    if config.tracker == "none":
        return None

    def connect() -> Tracker:
        ids = RunIds(run_uri)
        tracker = OPENERS[config.tracker](config, name, ids.get(config.tracker))
        ids.keep(config.tracker, tracker.run_id)
        return tracker

    return BackgroundTracker(config.tracker, connect)


class BackgroundTracker:
    """Passes everything on to a tracker from a thread: no call blocks or raises. Troubles are logged once."""

    def __init__(self, name: str, connect: Callable[[], Tracker]) -> None:
        self._name, self._connect = name, connect
        self._tracker: Tracker | None = None
        self._failing, self._retry_at = False, 0.0
        self._queue: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._send_all, name=name, daemon=True)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._put(lambda tracker: tracker.log(step, values))

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        self._put(lambda tracker: tracker.pictures(step, pictures))

    def finish(self, seconds: float = FINISH_SECONDS) -> None:
        """Wait until all has arrived, but no longer than ``seconds``."""
        self._put(lambda tracker: tracker.finish())
        self._put(None)
        self._thread.join(seconds)

    def _put(self, message: Callable[[Tracker], None] | None) -> None:
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._complain("it is too slow")

    def _send_all(self) -> None:
        while message := self._queue.get():
            try:
                self._send(message)
            except Exception as error:  # whatever it is, it is no reason to stop training
                self._retry_at = time.monotonic() + RETRY_SECONDS
                self._complain(str(error) or type(error).__name__)

    def _send(self, message: Callable[[Tracker], None]) -> None:
        if time.monotonic() < self._retry_at:
            return
        if self._tracker is None:
            self._tracker = self._connect()
        message(self._tracker)
        self._failing = False

    def _complain(self, reason: str) -> None:
        if not self._failing:
            self._failing = True
            first_line = reason.splitlines()[0]
            get_logger("train").warning("%s misses a part of this run, which goes on: %s", self._name, first_line)
