"""The report of an evaluation: report.json with all figures and their protocol, report.html with pictures as well."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.evaluation import MeasuredSet, Measuring
from t2i.evaluate.figures import SUBJECT_LABELS, Figure
from t2i.evaluate.gallery import CaptionCard, Galleries
from t2i.metrics.clip_score import expected_best_of
from t2i.storage import filesystem_for, write_file

REPORTED_PACKAGES = ("torch", "torchvision", "ray", "numpy", "scipy", "pillow", "open_clip_torch")

COLUMNS = ("kid", "f", "precision", "recall", "is", "clip")
"""Prefixes of metrics' names, in the order of the table's columns (``f`` is for ``fid`` and ``fd_<extractor>``)."""


@dataclass(frozen=True)
class Section:
    """One caption set's part of the report: what was measured, under which protocol, and what is shown.

    ``best_of_n`` is the expected best CLIP cosine of 1, 2, ... candidates; empty if candidates were pruned.
    """

    name: str
    protocol: dict[str, Any]
    figures: list[Figure]
    best_of_n: list[float]
    galleries: Galleries
    cards: dict[str, CaptionCard]

    def figures_of(self, metric: str, radius: float = 0.0) -> list[Figure]:
        """Return the figures of one metric at one radius of blur, in the order of :data:`SUBJECT_LABELS`."""
        shown = [figure for figure in self.figures if figure.subject in SUBJECT_LABELS]
        found = [figure for figure in shown if figure.metric == metric and figure.blur == radius]
        return sorted(found, key=lambda figure: list(SUBJECT_LABELS).index(figure.subject))

    def figure(self, metric: str, subject: str) -> Figure | None:
        """Return the figure of one metric and subject without blur; None if it was not measured."""
        return next((figure for figure in self.figures_of(metric) if figure.subject == subject), None)

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, in the order in which they were measured."""
        return list(dict.fromkeys(figure.metric for figure in self.figures))

    @property
    def kid_name(self) -> str:
        """Name of the kernel distance, which depends on the extractor; empty if it was not measured."""
        return next((metric for metric in self.metrics if metric.startswith("kid")), "")

    @property
    def elb_terms(self) -> list[tuple[str, Figure]]:
        """Names and figures of the evidence lower bound and its terms; empty if it was not measured."""
        figures = [figure for figure in self.figures if figure.metric.startswith("elb_")]
        return [(figure.metric.removeprefix("elb_").replace("_", " "), figure) for figure in figures]

    @property
    def columns(self) -> list[str]:
        """Metrics in the table, distances first.

        ``clip_cosine`` is left to report.json, as the CLIP score says the same; the ELB has a table of its own.
        """
        shown = [m for m in self.metrics if m != "clip_cosine" and not m.startswith("elb_")]
        return sorted(shown, key=lambda metric: next(i for i, name in enumerate(COLUMNS) if metric.startswith(name)))


def section(measured: MeasuredSet, measuring: Measuring, config: EvaluateConfig) -> Section:
    """Return one caption set's part of the report."""
    pruned = config.pruning.prunes
    best_of_n = [] if pruned else expected_best_of(measured.summary.mean_by_rank[None]).tolist()
    return Section(
        name=measured.prepared.caption_set.name,
        protocol=protocol(measured, measuring, config),
        figures=measured.figures,
        best_of_n=best_of_n,
        galleries=measured.galleries,
        cards=measured.cards,
    )


def protocol(measured: MeasuredSet, measuring: Measuring, config: EvaluateConfig) -> dict[str, Any]:
    """Return what another evaluation must have in common with this one for their figures to be comparable."""
    work_list = measured.prepared.work_list
    return {
        "source": measured.prepared.caption_set.source.path,
        "captions": len(work_list.items),
        "caption_hash": work_list.caption_hash,
        "captions_truncated": measured.summary.truncated,
        "candidates": work_list.candidates,
        "pruning": work_list.pruning and work_list.pruning | {"finished": config.pruning.count(work_list.candidates)},
        "selection": "best by CLIP cosine",
        "sampling": work_list.sampling,
        "seed": work_list.seed,
        "dtype": work_list.dtype + (", compiled" if work_list.compiled else ""),
        "models": work_list.models,
        "extractor": asdict(measuring.extractor),
        "real_images": "centre crop, area averaging, white behind transparency",
        "blur": "PIL GaussianBlur, both sides",
        "blur_radii": list(config.blur_radii),
        "training_images": measured.training,
        "versions": {package: version(package) for package in REPORTED_PACKAGES},
    }


def write_report(directory: str, run: str, sections: Sequence[Section]) -> str:
    """Write report.json and report.html, which needs no other file, into ``directory``; return the page's path."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    document = {"run": run, "made": made, "sets": [_as_json(section) for section in sections]}
    _write(f"{directory}/report.json", json.dumps(document, indent=1, ensure_ascii=False))
    _write(f"{directory}/report.html", render(run, made, sections))
    return f"{directory}/report.html"


def render(run: str, made: str, sections: Sequence[Section]) -> str:
    """Return report.html; ``made`` is the time of the evaluation as text."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.get_template("report.html.j2")
    return template.render(run=run, made=made, sections=sections, plots=_plots, subjects=SUBJECT_LABELS)


def _as_json(section: Section) -> dict[str, Any]:
    return {
        "name": section.name,
        "protocol": section.protocol,
        "figures": [asdict(figure) for figure in section.figures],
        "expected_best_cosine_of_n": section.best_of_n,
    }


def _plots(section: Section) -> dict[str, str]:
    """Return the plots for which the set has figures: title -> SVG."""
    from t2i.evaluate import plots  # imports matplotlib, which no worker needs

    drawn = {}
    if kid := section.kid_name:
        drawn[f"{kid} against the set's images (lower is nearer)"] = plots.bar_chart(section.figures_of(kid), kid)
    clip_scores = plots.bar_chart(section.figures_of("clip_score"), "CLIP score")
    drawn["CLIP score against the captions (higher fits better)"] = clip_scores
    if len(section.best_of_n) > 1:
        drawn["CLIP cosine of the best of N candidates"] = plots.best_of_n_plot(section.best_of_n)
    if kid and len(section.protocol["blur_radii"]) > 1:
        drawn[f"{kid} with the same blur on both sides"] = plots.blur_plot(_by_radius(section, kid), kid)
    return drawn


def _by_radius(section: Section, metric: str) -> dict[str, list[Figure]]:
    """Return the figures of one metric at all radii of blur, by subject."""
    radii = section.protocol["blur_radii"]
    subjects = [figure.subject for figure in section.figures_of(metric) if figure.subject != "shuffled"]
    by_radius = [{figure.subject: figure for figure in section.figures_of(metric, radius)} for radius in radii]
    return {subject: [figures[subject] for figures in by_radius] for subject in subjects}


def _write(path: str, text: str) -> None:
    write_file(*filesystem_for(path), text.encode())
