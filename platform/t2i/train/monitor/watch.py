"""All that a run shows of itself while it trains: curves, pictures, speed, metrics for Prometheus, and advice."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import ray
from torch import Tensor

from t2i.logs import get_logger
from t2i.storage import BackgroundWriter
from t2i.train.checkpoint.run_directory import RunDirectory
from t2i.train.monitor.advice import SCALE_PREFIX, Advice
from t2i.train.monitor.prometheus import PrometheusExporter
from t2i.train.monitor.tensorboard import TensorBoardTracker
from t2i.train.monitor.throughput import Throughput
from t2i.train.monitor.trackers import Tracker, TrackerConfig, open_tracker
from t2i.train.tasks.base import Task, Work


class Watch:
    """Passes every step, line of the log and validation on to all that shows them. The first worker alone has one.

    Curves and pictures are written under the run's directory, or where the run is on S3, into a local one that is
    copied there in the background.
    """

    def __init__(
        self,
        run: RunDirectory,
        step: int,
        task: Task,
        work: Work,
        peak_flops: float | None,
        tracker: TrackerConfig,
        scale_floor: float | None = None,
    ) -> None:
        """Watch a run that goes on after ``step`` updates.

        Args:
            run: where to write.
            step: updates done.
            task: says which metrics it has.
            work: that of one update, over all workers.
            peak_flops: FLOP/s that all devices could do together, None if not known.
            tracker: an experiment tracker to pass curves and pictures on to.
            scale_floor: in fp16, the least value that a gradient scale can have.

        Raises:
            UserError: the tracker's package is not installed.
        """
        name = "/".join(Path(run.path).parts[-2:])  # such as tiny/prior
        tracking = open_tracker(tracker, name, run.uri)
        self._run = run
        self._local = Path(run.path) if run.is_local else Path(tempfile.mkdtemp(prefix="t2i-run-"))
        self._recorder = TensorBoardTracker(self._local, step)
        self._trackers: list[Tracker] = [self._recorder, *([tracking] if tracking else [])]
        self._throughput = Throughput(work, peak_flops)
        self._advice = Advice(task.overfitting_metric, scale_floor)
        self._export = PrometheusExporter(name, task) if ray.is_initialized() else None
        self._scales: dict[str, float] = {}
        self._copier = None if run.is_local else BackgroundWriter(self._copy, f"logs and pictures of {run.uri}")

    def step(self, seconds: float, data_wait: float) -> None:
        """Count an update that took ``seconds``, of which ``data_wait`` were spent waiting for its batch."""
        self._throughput.step(seconds, data_wait)

    def scalars(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Show a line of the log; return it as shown, with the speed since the line before.

        The gradient scales of the blocks, too many for every line, are replaced by the least and the greatest.
        """
        line = {**values, **self._throughput.take()}
        self._advise(step, self._advice.training(line))
        self._scales = {name: line.pop(name) for name in values if name.startswith(SCALE_PREFIX)}
        if self._scales:
            line |= {"scale_min": min(self._scales.values()), "scale_max": max(self._scales.values())}
        self._log("train", step, line)
        if self._export:
            self._export.training(step, line)
        return line

    def validation(self, step: int, metrics: Mapping[str, float], pictures: Mapping[str, Tensor]) -> None:
        """Show metrics, pictures float [3, H, W] in [0, 1], and every block's last logged gradient scale."""
        self._advise(step, self._advice.validation(metrics))
        self._log("validation", step, metrics)
        for tracker in self._trackers:
            tracker.pictures(step, pictures)
        self._recorder.scales(step, self._scales)
        if self._export:
            self._export.validation(metrics)
        self._flush()

    def checkpoint(self) -> None:
        """Note that a checkpoint has been saved."""
        if self._export:
            self._export.checkpoint()

    def close(self) -> None:
        """Write out everything, and end the trackers: training ends here, or goes on in another process."""
        for tracker in self._trackers:
            tracker.finish()
        self._flush()
        if self._copier:
            self._copier.close()

    def _log(self, group: str, step: int, values: Mapping[str, float]) -> None:
        named = {f"{group}/{name}": value for name, value in values.items()}
        for tracker in self._trackers:
            tracker.log(step, named)

    def _advise(self, step: int, sentences: list[str]) -> None:
        for sentence in sentences:
            get_logger("train").warning("step %d: %s", step, sentence)
            self._recorder.note(step, sentence)
            if self._export:
                self._export.warning()

    def _flush(self) -> None:
        """Flush curves and pictures to disk; where the run is on S3, begin to copy them there."""
        self._recorder.flush()
        if self._copier:
            self._copier.put(("logs", "pictures"))

    def _copy(self, names: Sequence[str]) -> None:
        for name in names:
            self._run.put(self._local / name, name)
