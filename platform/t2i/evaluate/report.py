"""The report: figures with their protocol as JSON, and a page that shows the pictures behind them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from t2i.evaluate.config import CaptionSet, EvaluateConfig
from t2i.evaluate.figures import SUBJECTS, Figure
from t2i.evaluate.gallery import Card, Choice
from t2i.evaluate.work_list import WorkList
from t2i.metrics.features import extractor_protocol
from t2i.storage import filesystem_for, write_file

PACKAGES = ("torch", "torchvision", "ray", "numpy", "scipy", "pillow", "open_clip_torch")

COLUMNS = ("kid", "f", "precision", "recall", "is", "clip")
"""How the names of metrics begin, in the order of the table (``fid``, or ``fd_`` and an extractor)."""


@dataclass(frozen=True)
class Section:
    """One caption set: what was measured, under which protocol, and what is shown."""

    name: str
    protocol: dict[str, Any]
    figures: list[Figure]
    best_of_n: list[float]
    choice: Choice
    cards: dict[str, Card]

    def at(self, metric: str, radius: float = 0.0) -> list[Figure]:
        """Figures of one metric at one radius, in the order of :data:`SUBJECTS`."""
        found = [f for f in self.figures if f.metric == metric and f.blur == radius]
        return sorted(found, key=lambda figure: list(SUBJECTS).index(figure.subject))

    def value(self, metric: str, subject: str) -> Figure | None:
        """One figure without blur, or none where it was not measured."""
        return next((figure for figure in self.at(metric) if figure.subject == subject), None)

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, as first measured."""
        return list(dict.fromkeys(figure.metric for figure in self.figures))

    @property
    def kid(self) -> str:
        """Name of the kernel distance, which has its extractor's name in it; empty where none was measured."""
        return next((metric for metric in self.metrics if metric.startswith("kid")), "")

    @property
    def bound(self) -> list[tuple[str, Figure]]:
        """Terms of the joint likelihood's bound, if it was measured."""
        figures = [figure for figure in self.figures if figure.metric.startswith("elb_")]
        return [(figure.metric.removeprefix("elb_").replace("_", " "), figure) for figure in figures]

    @property
    def columns(self) -> list[str]:
        """The table's metrics, distances first; the raw cosine is in the JSON, beside the score made of it."""
        shown = [m for m in self.metrics if m != "clip_cosine" and not m.startswith("elb_")]
        return sorted(shown, key=lambda metric: next(i for i, name in enumerate(COLUMNS) if metric.startswith(name)))


def protocol(config: EvaluateConfig, caption_set: CaptionSet, work_list: WorkList, truncated: int) -> dict[str, Any]:
    """Everything another evaluation must share before their figures may be compared."""
    return {
        "source": caption_set.source.path,
        "captions": len(work_list.items),
        "caption_hash": work_list.caption_hash,
        "captions_truncated": truncated,
        "candidates": work_list.candidates,
        "pruning": work_list.pruning and work_list.pruning | {"finished": config.pruning.count(work_list.candidates)},
        "selection": "best by CLIP cosine",
        "sampling": work_list.sampling,
        "seed": work_list.seed,
        "dtype": work_list.dtype + (", compiled" if work_list.compiled else ""),
        "models": work_list.models,
        "extractor": asdict(extractor_protocol(config.extractor)),
        "real_images": "centre crop, area averaging, white behind transparency",
        "blur": "PIL GaussianBlur, both sides",
        "blur_radii": list(config.blur_radii),
        "floor": config.floor and f"{config.floor_images} images of {config.floor.path}",
        "versions": {package: version(package) for package in PACKAGES},
    }


def write_report(directory: str | Path, run: str, sections: Sequence[Section]) -> Path:
    """Write ``report.json`` and the self-contained ``report.html``; return the page's path."""
    directory = Path(directory)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    document = {"run": run, "made": made, "sets": [_as_json(section) for section in sections]}
    _write(directory / "report.json", json.dumps(document, indent=1, ensure_ascii=False))
    _write(directory / "report.html", render(run, made, sections))
    return directory / "report.html"


def render(run: str, made: str, sections: Sequence[Section]) -> str:
    """The page as HTML."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.get_template("report.html.j2")
    return template.render(run=run, made=made, sections=sections, plots=_plots, subjects=SUBJECTS)


def _as_json(section: Section) -> dict[str, Any]:
    return {
        "name": section.name,
        "protocol": section.protocol,
        "figures": [asdict(figure) for figure in section.figures],
        "expected_best_cosine_of_n": section.best_of_n,
    }


def _plots(section: Section) -> dict[str, str]:
    """Title -> SVG of what the set has figures for."""
    from t2i.evaluate import plots  # imports matplotlib, which no worker needs

    drawn = {}
    if kid := section.kid:
        drawn[f"{kid} against the set's images (lower is nearer)"] = plots.bars(section.at(kid), kid)
    drawn["CLIP score against the captions (higher fits better)"] = plots.bars(section.at("clip_score"), "CLIP score")
    if len(section.best_of_n) > 1:
        drawn["What ranking brings"] = plots.best_of_n(section.best_of_n)
    if kid and len(section.protocol["blur_radii"]) > 1:
        drawn["The same blur on both sides"] = plots.blur_sweep(_sweep(section, kid), kid)
    return drawn


def _sweep(section: Section, metric: str) -> dict[str, list[Figure]]:
    radii = section.protocol["blur_radii"]
    subjects = [figure.subject for figure in section.at(metric) if figure.subject != "shuffled"]
    by_radius = [{figure.subject: figure for figure in section.at(metric, radius)} for radius in radii]
    return {subject: [figures[subject] for figures in by_radius] for subject in subjects}


def _write(path: Path, text: str) -> None:
    write_file(*filesystem_for(path), text.encode())
