"""The metrics of a run that Prometheus reads through Ray's agents, with the two labels ``run`` and ``task``.

Those here are every task's; its own are listed in its class. Ray puts ``ray_`` before every name and adds its own
labels. deploy/monitoring shows them in Grafana.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

from t2i.train.tasks.base import Task

COMMON_TRAINING_METRICS = {
    "loss": "training loss",
    "gradient_norm": "norm of the gradient before clipping",
    "lr": "learning rate",
    "seconds_per_step": "seconds of one update",
    "mfu": "model FLOPs as a share of the devices' peak",
    "data_wait_share": "share of the time spent waiting for data",
    "scale_min": "fp16: the least gradient scale of all blocks",
    "scale_max": "fp16: the greatest gradient scale of all blocks",
}
"""Scalars of every task's log and their meanings; ``<unit>_per_second`` is added to them."""

LABELS = ("run", "task")


def training_gauges(task: Task) -> dict[str, str]:
    """Return the scalars of the log that become the gauge ``t2i_train_<name>``: name -> meaning."""
    unit = task.work(1).unit
    throughput = {f"{unit}_per_second": f"{unit} per second, all workers"}
    return {**COMMON_TRAINING_METRICS, **throughput, **task.training_metrics}


class PrometheusExporter:
    """Exports the newest values of a run; make one, in the first worker, where Ray is connected.

    Values whose names are neither common nor the task's are left out.
    """

    def __init__(self, run: str, task: Task) -> None:
        tags = {"run": run, "task": type(task).__name__}

        def make_gauge(name: str, meaning: str) -> Gauge:
            gauge = Gauge(name, meaning, LABELS)
            gauge.set_default_tags(tags)
            return gauge

        training, validation = training_gauges(task), task.validation_metrics
        self._training = {name: make_gauge(f"t2i_train_{name}", meaning) for name, meaning in training.items()}
        self._validation = {name: make_gauge(f"t2i_validation_{name}", meaning) for name, meaning in validation.items()}
        self._step = make_gauge("t2i_train_step", "updates done")
        self._checkpoint = make_gauge("t2i_train_checkpoint_timestamp_seconds", "Unix time of the newest checkpoint")
        self._warnings = Counter("t2i_train_warnings", "sentences of advice", LABELS).set_default_tags(tags)

    def training(self, step: int, values: Mapping[str, float]) -> None:
        """Export a line of the log, written after ``step`` updates."""
        self._step.set(step)
        _set(self._training, values)

    def validation(self, metrics: Mapping[str, float]) -> None:
        """Export a validation's metrics (``t2i_validation_<name>``)."""
        _set(self._validation, metrics)

    def checkpoint(self) -> None:
        """Note that a checkpoint has been saved just now."""
        self._checkpoint.set(time.time())

    def warning(self) -> None:
        """Count a sentence of advice."""
        self._warnings.inc()


def _set(gauges: Mapping[str, Gauge], values: Mapping[str, float]) -> None:
    for name in gauges.keys() & values.keys():
        gauges[name].set(values[name])
