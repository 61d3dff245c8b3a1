"""Experiment trackers that curves and pictures go to besides TensorBoard: MLflow or Weights & Biases.

``train.tracker`` names one. It is called from a thread of its own: whether it hangs or raises, training goes on.
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
from t2i.storage import file_info, filesystem_for, read_path, write_file
from t2i.train.monitor.tensorboard import picture_file, to_pixels

QUEUE_SIZE = 1000
"""How many messages may wait for a slow tracker; further ones are dropped."""

RETRY_SECONDS = 60.0
"""After an error, how long messages are dropped before the tracker is tried again."""

FINISH_SECONDS = 30.0
"""How long the end of a run waits for the last messages to be sent."""


@dataclass
class TrackerConfig:
    """Which experiment tracker to use, if any, and where it is."""

    tracker: str = setting("none", "where curves and pictures go besides TensorBoard: none, mlflow or wandb")
    tracker_project: str = setting("t2i", "MLflow's experiment, or Weights & Biases' project")
    tracker_uri: str | None = setting(None, "the tracker's address; empty: MLFLOW_TRACKING_URI or WANDB_BASE_URL")

    def __post_init__(self) -> None:
        check_tracker(self.tracker)


class Tracker(Protocol):
    """Keeps a run's curves and pictures. Every method may raise whatever its library raises."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Keep scalars by name, such as ``train/loss``."""

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Keep pictures float [3, H, W] in [0, 1] by name."""

    def finish(self) -> None:
        """End the run here: it is complete, or will go on in another process."""


class RunIds:
    """The ids by which trackers know this run, kept in ``tracker.json``, so that a resumed run continues there."""

    def __init__(self, run_uri: str) -> None:
        self._filesystem, path = filesystem_for(run_uri)
        self._file = f"{path}/tracker.json"

    def get(self, tracker: str) -> str | None:
        """Return the id kept for ``tracker``, if any."""
        return self._all().get(tracker)

    def keep(self, tracker: str, run_id: str) -> None:
        """Remember ``run_id`` for ``tracker``."""
        write_file(self._filesystem, self._file, json.dumps(self._all() | {tracker: run_id}).encode())

    def _all(self) -> dict[str, str]:
        if not file_info(self._filesystem, self._file).is_file:
            return {}
        ids: dict[str, str] = json.loads(read_path(self._filesystem, self._file))
        return ids


class MLflow:
    """A run in MLflow, a new one or that with ``run_id``."""

    def __init__(self, config: TrackerConfig, name: str, run_id: str | None) -> None:
        # MLflow would retry for minutes; it reads these at each request.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from mlflow import MlflowClient  # takes seconds

        self._client = MlflowClient(config.tracker_uri)
        self.run_id = run_id or self._create(config.tracker_project, name)
        self._client.update_run(self.run_id, status="RUNNING")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send scalars in one request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self.run_id, [Metric(name, value, now, step) for name, value in values.items()])

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Send pictures as artifacts, PNG files."""
        for name, picture in pictures.items():
            self._client.log_image(self.run_id, to_pixels(picture), f"pictures/{picture_file(name, step)}")

    def finish(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self.run_id)

    def _create(self, project: str, name: str) -> str:
        experiment = self._client.get_experiment_by_name(project)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(project)
        run_id: str = self._client.create_run(experiment_id, run_name=name).info.run_id
        return run_id


class Wandb:
    """A run in Weights & Biases, a new one or that with ``run_id``; offline with ``WANDB_MODE=offline``."""

    def __init__(self, config: TrackerConfig, name: str, run_id: str | None) -> None:
        import wandb  # takes seconds

        self._wandb: Any = wandb
        self.run_id = run_id or uuid.uuid4().hex[:12]
        settings = wandb.Settings(base_url=config.tracker_uri) if config.tracker_uri else None
        self._run = wandb.init(
            project=config.tracker_project, name=name, id=self.run_id, resume="allow", settings=settings
        )
        # W&B's own step may never decrease, but that of a run resumed from a checkpoint does: plot against ours.
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send scalars."""
        self._run.log({"step": step, **values})

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Send pictures."""
        images = {name: self._wandb.Image(to_pixels(picture)) for name, picture in pictures.items()}
        self._run.log({"step": step, **images})

    def finish(self) -> None:
        """End the run and wait until all of it has been sent."""
        self._run.finish()


TRACKERS: dict[str, Callable[[TrackerConfig, str, str | None], MLflow | Wandb]] = {"mlflow": MLflow, "wandb": Wandb}


def check_tracker(tracker: str) -> None:
    """Refuse a tracker that does not exist or is not installed.

    Raises:
        UserError: ``tracker`` is one of those.
    """
    if tracker not in ("none", *TRACKERS):
        raise UserError(f"train.tracker is {tracker!r}: use none, {' or '.join(TRACKERS)}.")
    if tracker != "none" and find_spec(tracker) is None:
        raise UserError(f"train.tracker is {tracker}, not installed here: pip install 't2i-platform[{tracker}]'.")


def open_tracker(config: TrackerConfig, name: str, run_uri: str) -> Tracker | None:
    """Return the tracker of ``config`` for the run ``name`` in ``run_uri``, None if none is configured.

    Nothing is connected yet: a thread does that at the first message.

    Raises:
        UserError: its package is not installed.
    """
    check_tracker(config.tracker)  # again, since a worker need not have what the driver has installed
    if config.tracker == "none":
        return None

    def connect() -> Tracker:
        ids = RunIds(run_uri)
        tracker = TRACKERS[config.tracker](config, name, ids.get(config.tracker))
        ids.keep(config.tracker, tracker.run_id)
        return tracker

    return BackgroundTracker(config.tracker, connect)


class BackgroundTracker:
    """Passes everything on to a tracker from a thread: no call blocks or raises.

    An error is logged when it first occurs, and again only after a message has got through.
    """

    def __init__(self, name: str, connect: Callable[[], Tracker]) -> None:
        self._name, self._connect = name, connect
        self._tracker: Tracker | None = None
        self._failing, self._retry_at = False, 0.0
        self._queue: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue(QUEUE_SIZE)
        self._thread = threading.Thread(target=self._send_all, name=name, daemon=True)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Queue scalars by name."""
        self._put(lambda tracker: tracker.log(step, values))

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Queue pictures float [3, H, W] in [0, 1] by name."""
        self._put(lambda tracker: tracker.pictures(step, pictures))

    def finish(self, seconds: float = FINISH_SECONDS) -> None:
        """Send what is waiting and end the tracker's run, but wait for that no longer than ``seconds``."""
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
            except Exception as error:  # whatever a tracker raises, training goes on
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
