"""Studies name what their jobs know, run each variant as a job, and read what it wrote."""

from __future__ import annotations

import importlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import study
from models.errors import UserError
from t2i.config import load_config

STUDIES = sorted(file.stem for file in study.STUDIES.glob("*.yaml"))
CONFIGS = {
    "coco_eval": ("coco_eval", "CocoEval"),
    "train_dvae": ("train_dvae", "TrainDVAE"),
    "benchmarks/train_variant": ("train_prior", "TrainVariant"),
}
"""Of each job its name in jobs/configs, and its configuration."""


@pytest.mark.parametrize("name", STUDIES)
def test_every_variant_is_a_command_of_its_job(name: str) -> None:
    plan = study.read_plan(name)
    job, config = CONFIGS[plan.job]
    config = getattr(importlib.import_module(Path(plan.job).name), config)
    for words in plan.variants.values():
        own = {word.partition("=")[0] for word in words}
        load_config(config, job, [*words, *(word for word in plan.words if word.partition("=")[0] not in own)])


def test_an_unknown_study_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"^study is 'colour': use .*temperature\.$"):
        study.read_plan("colour")


class Jobs:
    """Stands in for the jobs: keeps the words of each, and writes what it would."""

    def __init__(self) -> None:
        self.words: list[list[str]] = []

    def run(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.words.append(command[2:])
        values = dict(word.split("=", 1) for word in command[2:])
        figures = [
            {"metric": metric, "subject": subject, "value": float(values.get("sampling.temperature", 0)) + place}
            for place, subject in enumerate(("first", "best"))
            for metric in ("clip_score", "kid_efficientnet_lite0", "precision", "recall")
        ]
        if "out" in values:
            (Path(values["out"]) / "report.json").write_text(json.dumps({"sets": [{"figures": figures}]}))
        else:
            (Path(values["run"]) / "dvae").mkdir()
            metrics = {"psnr": float(values["task.beta_end"]), "codes_used": 0.5, "kl": 9.0, "elb": 1.0}
            (Path(values["run"]) / "dvae/metrics.json").write_text(json.dumps(metrics))
        return subprocess.CompletedProcess(command, 0)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    found = Jobs()
    monkeypatch.setattr(subprocess, "run", found.run)
    return found


def test_a_study_of_drawing_makes_a_table_and_a_plot_of_its_reports(jobs: Jobs, tmp_path: Path) -> None:
    out = tmp_path / "temperature"
    study.main(study.StudyConfig("temperature", run="models/trained/small", out=str(out), words=["captions=20"]))
    assert [words[0] for words in jobs.words] == ["run=models/trained/small"] * 6
    assert all("captions=20" in words and "captions=200" not in words for words in jobs.words)
    lines = (out / "table.md").read_text().splitlines()
    assert lines[2:5] == [
        "| temperature | CLIP score | KID | precision | recall |",
        "| --- | --- | --- | --- | --- |",
        "| 0.6 | 1.600 | 1.600 | 1.600 | 1.600 |",
    ]
    assert (out / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_study_of_training_reads_what_each_run_ended_with(jobs: Jobs, tmp_path: Path) -> None:
    study.main(study.StudyConfig("beta", out=str(tmp_path / "beta")))
    assert f"run={tmp_path}/beta/6 to 1" in jobs.words[3]
    assert "| 6 to 1 | 1.000 | 0.500 | 9.000 | 1.000 |" in (tmp_path / "beta/table.md").read_text()


def test_a_job_that_fails_ends_the_study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 2))
    with pytest.raises(UserError, match=r"^0\.6: coco_eval failed; mend what it says"):
        study.main(study.StudyConfig("temperature", out=str(tmp_path / "out")))
