"""Run one of the project's jobs once for each variant of a study, then write a table and a plot of what came of them.

    python jobs/benchmarks/study.py study=temperature

A study is a YAML in jobs/benchmarks/studies: its question, the job, what all variants share, what each has of its own,
and the figures to read. Started again it goes on where it stopped, as the jobs do. Writes <out>/table.md and
<out>/plot.png.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.figure
import yaml

from models.errors import UserError
from models.settings import setting
from t2i.config import ROOT, run_job

STUDIES = Path(__file__).parent / "studies"


@dataclass
class StudyConfig:
    """Which study, of which run."""

    study: str = setting("temperature", "a file of jobs/benchmarks/studies, without its suffix")
    run: str = setting("models/trained/small", "run directory; a study of training reads its tokens", path="read")
    out: str = setting("runs/studies/${study}", "folder of all that comes of it", path="written")
    words: list[str] = setting(list, "more words of the job for every variant, such as captions=20")


@dataclass(frozen=True)
class Plan:
    """A study: its ``question``, the ``job``, and what is varied.

    Attributes:
        words: the words of the job that all variants share.
        variants: name of a variant -> its own words.
        figures: title of a figure -> its name in what the job writes: a metric of a report, or of a training's end.
        subjects: name of a row -> image set of a report; a variant has a row for each. Of a training there is none.
        model: of a training the model that it trains, whose folder in a run holds the metrics.
        needs: what of the given run a training reads.
    """

    question: str
    job: str
    words: list[str]
    variants: dict[str, list[str]]
    figures: dict[str, str]
    subjects: dict[str, str] = field(default_factory=lambda: {"": "best"})
    model: str = ""
    needs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """What is varied in a row of the table, and its figures by title."""

    name: str
    figures: dict[str, float]


def main(config: StudyConfig) -> None:
    """Run all variants, and write and print the table."""
    plan = read_plan(config.study)
    rows: list[Row] = []
    for name, words in plan.variants.items():
        folder = Path(config.out) / name
        run_variant(plan, [*words, *config.words], folder, config.run)
        rows += read_rows(plan, name, folder)
    text = f"{plan.question}\n\n{table(rows, config.study)}\n"
    (Path(config.out) / "table.md").write_text(text)
    plot(rows, config.study).savefig(Path(config.out) / "plot.png", dpi=110)
    print(text)


def read_plan(study: str) -> Plan:
    """Return the study of this name.

    Raises:
        UserError: there is none.
    """
    file = STUDIES / f"{study}.yaml"
    if not file.is_file():
        raise UserError(f"study is {study!r}: use {', '.join(sorted(each.stem for each in STUDIES.glob('*.yaml')))}.")
    plan = yaml.safe_load(file.read_text())
    plan["variants"] = {str(name): words or [] for name, words in plan["variants"].items()}
    return Plan(**plan)


def run_variant(plan: Plan, words: Sequence[str], folder: Path, run: str) -> None:
    """Run the job of a variant, in ``folder``; its words take the place of those that all variants share.

    Raises:
        UserError: the job failed.
    """
    own = {word.partition("=")[0] for word in words}
    shared = [word for word in plan.words if word.partition("=")[0] not in own]
    where = [f"run={folder}"] if plan.model else [f"run={run}", f"out={folder}"]
    folder.mkdir(parents=True, exist_ok=True)
    for name in plan.needs:
        if not (folder / name).exists():
            (folder / name).symlink_to(Path(run) / name)
    command = [sys.executable, str(ROOT / "jobs" / f"{plan.job}.py"), *where, *shared, *words]
    if subprocess.run(command, check=False).returncode:
        raise UserError(f"{folder.name}: {plan.job} failed; mend what it says and start the study again.")


def read_rows(plan: Plan, name: str, folder: Path) -> list[Row]:
    """Return the rows of a finished variant."""
    if plan.model:
        metrics = json.loads((folder / plan.model / "metrics.json").read_text())
        return [Row(name, {title: metrics[metric] for title, metric in plan.figures.items()})]
    (report,) = json.loads((folder / "report.json").read_text())["sets"]
    values: dict[tuple[str, str], Any] = {(row["metric"], row["subject"]): row["value"] for row in report["figures"]}
    return [
        Row(row or name, {title: values[metric, subject] for title, metric in plan.figures.items()})
        for row, subject in plan.subjects.items()
    ]


def table(rows: Sequence[Row], study: str) -> str:
    """Return the rows as a table in Markdown."""
    titles = list(rows[0].figures)
    lines = [[row.name, *(f"{row.figures[title]:.3f}" for title in titles)] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [[study, *titles], ["---"] * (1 + len(titles)), *lines])


def plot(rows: Sequence[Row], study: str) -> matplotlib.figure.Figure:
    """Return each figure over what is varied, side by side."""
    titles = list(rows[0].figures)
    whole = matplotlib.figure.Figure((4 * len(titles), 3), layout="constrained")
    for axes, title in zip(whole.subplots(1, len(titles), squeeze=False)[0], titles, strict=True):
        axes.plot([row.name for row in rows], [row.figures[title] for row in rows], "o-", color="#c2572b")
        axes.set(xlabel=study.replace("_", " "), ylabel=title)
        axes.grid(alpha=0.25)
    return whole


if __name__ == "__main__":
    run_job(main, StudyConfig, "study")
