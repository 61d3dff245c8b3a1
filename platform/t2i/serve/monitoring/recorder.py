"""Values of metrics, on their way to Ray's metrics agent, where Prometheus reads them."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

from ray.serve import metrics as ray_metrics

from t2i.serve.monitoring.declared import Metric

_levels: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()


def count(metric: Metric, by: int = 1, **labels: str) -> None:
    """Add to a counter."""
    if by > 0:
        to_ray(metric, by, labels)


def observe(metric: Metric, value: float, **labels: str) -> None:
    """Enter a value into a histogram, or make it that of a gauge."""
    to_ray(metric, value, labels)


def change(metric: Metric, by: int, **labels: str) -> None:
    """Change a gauge that counts what this process has at the moment; of one thread alone."""
    key = metric.name, tuple(labels.items())
    _levels[key] += by
    to_ray(metric, _levels[key], labels)


def to_ray(metric: Metric, value: float, labels: dict[str, str]) -> None:
    """Record a value; it takes a few microseconds, and an agent collects it every few seconds."""
    instrument = _instrument(metric)
    match metric.kind:
        case "counter":
            instrument.inc(value, labels)
        case "gauge":
            instrument.set(value, labels)
        case "histogram":
            instrument.observe(value, labels)


@cache
def _instrument(metric: Metric) -> Any:
    """Return Ray's object for a metric; made at its first use, in a replica, whose labels Serve then adds."""
    labels: Any = metric.labels  # Serve's annotation would have exactly one
    match metric.kind:
        case "counter":
            return ray_metrics.Counter(metric.name, metric.meaning, labels)
        case "gauge":
            return ray_metrics.Gauge(metric.name, metric.meaning, labels)
        case "histogram":
            return ray_metrics.Histogram(metric.name, metric.meaning, list(metric.buckets), labels)
