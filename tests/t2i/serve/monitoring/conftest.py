"""What a service without Ray tells Prometheus, kept in this process."""

from __future__ import annotations

from collections import defaultdict

import pytest

from t2i.serve.monitoring import recorder
from t2i.serve.monitoring.declared import METRICS, Metric


class Recorded:
    """The values that were recorded, by the names and labels of their metrics."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, frozenset[tuple[str, str]]], list[float]] = defaultdict(list)

    def __call__(self, metric: Metric, value: float, labels: dict[str, str]) -> None:
        assert metric in METRICS
        assert set(labels) == set(metric.labels)
        self.values[metric.name, frozenset(labels.items())].append(value)

    def of(self, name: str, **labels: str) -> list[float]:
        """All values of ``t2i_<name>`` in order, with exactly these labels."""
        return self.values.get((f"t2i_{name}", frozenset(labels.items())), [])

    def total(self, name: str, **labels: str) -> float:
        """The sum of the values of ``t2i_<name>``: what a counter stands at."""
        return sum(self.of(name, **labels))

    def names(self) -> set[str]:
        """The metrics that have a value."""
        return {name for name, _ in self.values}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    sink = Recorded()
    monkeypatch.setattr(recorder, "to_ray", sink)
    return sink
