"""Dashboard, alert rules and documents name the metrics that are declared, and all of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from t2i.serve.monitoring.declared import METRICS, Metric

ROOT = Path(__file__).resolve().parents[4]
MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana" / "serving.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
RULES = [
    rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]


def series(metric: Metric) -> set[str]:
    """The names that Prometheus has for a metric."""
    suffixes = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
    return {f"ray_{metric.name}{suffix}" for suffix in suffixes}


def asked(queries: list[str]) -> set[str]:
    return {name for query in queries for name in re.findall(r"\bray_\w+", query)}


def test_dashboard_and_rules_ask_for_what_is_declared() -> None:
    known = set().union(*map(series, METRICS))
    assert asked([*QUERIES, *(rule["expr"] for rule in RULES)]) <= known


def test_the_dashboard_shows_every_metric() -> None:
    shown = asked(QUERIES)
    assert [metric.name for metric in METRICS if not series(metric) & shown] == []


def test_queries_use_the_labels_of_their_metrics() -> None:
    labels = {name: metric.labels for metric in METRICS for name in series(metric)}
    for query in [*QUERIES, *(rule["expr"] for rule in RULES)]:
        for name, matchers in re.findall(r"\b(ray_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", matchers)) <= set(labels[name]), query


def test_the_dashboards_panels_stand_side_by_side() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_the_document_has_a_row_for_every_metric() -> None:
    rows = re.findall(r"^\| `(t2i_\w+)` \| (\w+) \| (.*) \| (.*) \|$", (MONITORING / "README.md").read_text(), re.M)
    assert rows == [
        (metric.name, metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.meaning)
        for metric in METRICS
    ]


def test_names_are_prometheus_s() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"t2i_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert bool(metric.buckets) == (metric.kind == "histogram")


@pytest.mark.parametrize("command", [["check", "rules", "deploy/monitoring/alerts.yaml"], ["test", "rules"]])
def test_prometheus_takes_the_rules_and_they_say_what_they_should(command: list[str]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    files = [] if len(command) > 2 else ["tests/t2i/serve/monitoring/alerts_test.yaml"]
    done = subprocess.run(["promtool", *command, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
