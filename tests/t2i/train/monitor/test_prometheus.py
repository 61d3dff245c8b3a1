from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from t2i.train.monitor.prometheus import COMMON_TRAINING_METRICS, LABELS, PrometheusExporter, training_gauges
from t2i.train.tasks.base import Task
from t2i.train.tasks.clip import CLIPTask, CLIPTaskConfig
from t2i.train.tasks.dvae import DVAETask, DVAETaskConfig
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig
from tests.ray_metrics import scrape as scrape_ray

DASHBOARD = Path(__file__).resolve().parents[4] / "deploy/monitoring/grafana/training.json"


TASKS: list[Task] = [
    PriorTask(PriorTaskConfig(), tokenizer="", dvae=""),
    DVAETask(DVAETaskConfig()),
    CLIPTask(CLIPTaskConfig(), image_size=32),
]


@pytest.fixture(scope="module")
def exporting_worker(ray_cluster: None) -> ray.actor.ActorHandle:  # noqa: ARG001  a fixture cannot be marked to use another
    """An actor that exports as a training worker does."""
    task = TASKS[0]

    class Exporting:
        def export(self) -> None:
            self.exporter = PrometheusExporter("tiny/prior", task)
            self.exporter.training(7, {"loss": 1.25, "nats_per_text_token": 2.5, "mfu": 0.3, "not_in_the_list": 1.0})
            self.exporter.training(8, {"loss": 1.0})
            self.exporter.validation({"nats_per_image_token": 5.5, "perplexity": 53.0})
            self.exporter.warning()
            self.exporter.checkpoint()

    remote_class: Any = ray.remote(num_cpus=0)(Exporting)
    actor: ray.actor.ActorHandle = remote_class.remote()
    ray.get(actor.export.remote())
    return actor  # Ray forgets the metrics of a worker that is gone


def scrape(until: str, seconds: float = 60) -> dict[str, float]:
    """What Prometheus reads of our metrics, as ``name`` -> value, once ``until`` is among them."""
    end = time.monotonic() + seconds
    ours: dict[str, float] = {}
    while until not in ours and time.monotonic() < end:
        time.sleep(0.5)
        ours = {
            match["name"]: float(match["value"])
            for match in re.finditer(
                r"^ray_(?P<name>t2i_\w+)\{(?P<labels>.*)\} (?P<value>\S+)$", scrape_ray(), re.MULTILINE
            )
            if 'run="tiny/prior"' in match["labels"] and 'task="PriorTask"' in match["labels"]
        }
    return ours


@pytest.mark.ray
@pytest.mark.usefixtures("exporting_worker")
def test_prometheus_reads_the_newest_values_from_ray() -> None:
    found = scrape(until="t2i_train_checkpoint_timestamp_seconds")
    assert time.time() - found.pop("t2i_train_checkpoint_timestamp_seconds") < 120
    assert found == {
        "t2i_train_step": 8.0,
        "t2i_train_loss": 1.0,
        "t2i_train_nats_per_text_token": 2.5,
        "t2i_train_mfu": 0.3,
        "t2i_validation_nats_per_image_token": 5.5,
        "t2i_train_warnings_total": 1.0,
    }


def test_the_dashboard_asks_for_what_is_exported() -> None:
    known = {f"ray_t2i_train_{name}" for task in TASKS for name in training_gauges(task)}
    known |= {f"ray_t2i_validation_{name}" for task in TASKS for name in task.validation_metrics}
    known |= {f"ray_t2i_train_{name}" for name in ("step", "checkpoint_timestamp_seconds", "warnings_total")}
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"\bray_t2i_\w+", query)}
    assert asked <= known
    assert {f"ray_t2i_train_{name}" for name in ("loss", "gradient_norm", "mfu", "scale_min", "scale_max")} <= asked
    assert all('run=~"$run"' in query for query in queries)
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", *LABELS}


@pytest.mark.parametrize(
    ("task", "training", "validation"),
    [
        (
            TASKS[0],
            {"nats_per_text_token", "nats_per_image_token", "tokens_per_second"},
            {"nats_per_text_token", "nats_per_image_token"},
        ),
        (
            TASKS[1],
            {"reconstruction", "kl", "images_per_second"},
            {"psnr", "elb", "codes_used", "perplexity"},
        ),
        (TASKS[2], {"accuracy", "pairs_per_second"}, {"image_to_text_r1", "text_to_image_r1"}),
    ],
    ids=["prior", "dvae", "clip"],
)
def test_each_task_s_own_metrics_are_exported_beside_the_common_ones(
    task: Task, training: set[str], validation: set[str]
) -> None:
    assert set(training_gauges(task)) == training | set(COMMON_TRAINING_METRICS)
    assert set(task.validation_metrics) == validation


def test_the_dashboard_s_panels_stand_side_by_side() -> None:
    cells = [
        (x, y)
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
