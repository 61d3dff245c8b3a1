"""The page of a plan, from a few requests of each of its studies."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import UserError
from t2i.config import ConfigError, load_config
from t2i.simulate import plan
from t2i.simulate.measured import Check, MeasuredService, read_measured, write_measured
from t2i.simulate.plan import PlanConfig, planned_service, write_plan
from t2i.simulate.simulation import Scenario
from t2i.simulate.studies import Runs, Studies, run_studies
from tests.t2i.simulate.conftest import costs

MEASURED = MeasuredService(
    "two cores", "runs/x", 1.5, costs(), [Check("little", 12, [1.0, 2.0, 3.0], [1.05, 2.0, 2.7])]
)


def few_requests(scenario: Scenario) -> Scenario:
    return replace(scenario, load=replace(scenario.load, rate=60 / scenario.load.seconds))


def short(studies: Studies) -> Runs:
    return run_studies(
        {name: {key: few_requests(each) for key, each in study.items()} for name, study in studies.items()}
    )


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plan, "run_studies", short)
    write_measured(MEASURED, str(tmp_path / "measured.yaml"))
    words = [f"measured={tmp_path}/measured.yaml", f"out={tmp_path}/docs", "fleets=[1, 40]", "loads=[0.5, 0.9]"]
    return write_plan(load_config(PlanConfig, "simulate_service", words))


def test_the_page_has_its_plots_and_says_that_no_gpu_was_measured(page: Path) -> None:
    text = page.read_text()
    plots = re.findall(r"\]\((capacity/\S+\.svg)\)", text)
    assert sorted(plots) == sorted(f"capacity/{file.name}" for file in (page.parent / "capacity").iterdir())
    assert len(plots) == 5
    for plot in plots:
        svg = (page.parent / plot).read_text()
        assert svg.rstrip().endswith("</svg>")
        assert len(svg) < 150_000
    assert "No GPU was measured" in text


def test_the_page_has_a_row_for_each_gpu_model_fleet_and_check(page: Path) -> None:
    text = page.read_text()
    for begin in (
        "| 1b | L4 |",
        "| 1b | B200 |",
        "| 12b | H200 |",
        "| 1 | all stages on each |",
        "| 40 | 3",
        "| day | all |",
    ):
        assert f"\n{begin}" in text
    assert "| little | 12 | 1, 1.05: +5 % | 2, 2: +0 % | 3, 2.7: -10 % |" in text
    heads = re.findall(r"^\|.*\|\n\|(?:---\|| --- \|)+.*$", text, flags=re.MULTILINE)
    assert len(heads) >= 8
    for line in text.splitlines():
        assert not line.startswith("| ") or line.count("|") > 2


def test_what_is_planned_has_the_measured_gateways(tmp_path: Path) -> None:
    config = load_config(PlanConfig, "simulate_service", [f"out={tmp_path}", "start_s=7"])
    planned = planned_service(config, MEASURED)
    assert planned.costs.gateway == MEASURED.costs.gateway
    assert planned.costs.start_s == 7.0


def test_what_cannot_be_planned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gpu is 'H300': use one of gpus, L4, "):
        load_config(PlanConfig, "simulate_service", ["gpu=H300"])
    with pytest.raises(ConfigError, match="model is 'tiny': use one of base, 1b, "):
        load_config(PlanConfig, "simulate_service", ["model=tiny"])
    config = load_config(PlanConfig, "simulate_service", ["gpu=L4", "model=12b"])
    with pytest.raises(UserError, match="gpu is L4, which has too little memory for the model 12b"):
        planned_service(config, MEASURED)
    with pytest.raises(
        UserError, match=r"measured is .*, which cannot be read .*: run jobs/benchmarks/bench_simulation"
    ):
        read_measured(str(tmp_path / "none.yaml"))


def test_what_was_measured_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = str(tmp_path / "measured.yaml")
    write_measured(MEASURED, path)
    assert Path(path).read_text().startswith("# What the stages of the service cost")
    assert read_measured(path) == MEASURED
    assert MEASURED.checks[0].differences == pytest.approx([0.05, 0.0, -0.1])
