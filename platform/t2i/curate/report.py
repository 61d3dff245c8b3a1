"""Write the report: what each filter dropped, with examples (JSON and HTML), and lists of all that was dropped."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from t2i.curate.caption_filters import CAPTION_FILTERS
from t2i.curate.config import CurationRules
from t2i.curate.decisions import IMAGE_FILTERS, Decisions
from t2i.curate.examples import Example, ThumbnailLookup, caption_examples, closest_pairs, image_examples
from t2i.curate.gather import KEPT, CaptionJudgements, ImageMeasurements
from t2i.data.part_files import parquet_bytes
from t2i.storage import filesystem_for, write_file

LETTER_EDGES = (5, 10, 20, 30, 50, 80, 120, 200)
ASPECT_EDGES = (0.5, 0.67, 0.9, 1.11, 1.5, 2.0)
LANGUAGES_SHOWN = 12
SHEET_PAIRS = 48
"""Pairs on the contact sheet that helps to choose the threshold of the overlap."""
MATCH_SCHEMA = pa.schema(
    {
        "eval_set": pa.string(),
        "eval_id": pa.string(),
        "train_id": pa.string(),
        "method": pa.string(),
        "similarity": pa.float32(),
        "dropped": pa.bool_(),
    }
)


@dataclass(frozen=True)
class Histogram:
    """A histogram of rows (label, number before filtering, number kept)."""

    title: str
    rows: list[tuple[str, int, int]]

    @property
    def most(self) -> int:
        """The largest number in a row, at least 1: the length of the longest bar."""
        return max(1, *(before for _, before, _ in self.rows))


@dataclass(frozen=True)
class Report:
    """The content of the report.

    ``protocol`` holds the source, rules and CLIP; ``images`` and ``kept`` are numbers of images; ``dropped`` maps image
    filters, and ``captions`` caption filters and ``kept``, to numbers; ``recall`` is that of the near-duplicate search;
    ``evaluation`` maps the evaluation sets to numbers (:func:`_overlap`); examples are by filter; ``sheet`` holds the
    pairs next to the threshold of the overlap.
    """

    protocol: dict[str, Any]
    images: int
    dropped: dict[str, int]
    kept: int
    captions: dict[str, int]
    recall: float | None
    evaluation: dict[str, dict[str, int]]
    histograms: list[Histogram]
    image_examples: dict[str, list[Example]]
    caption_examples: dict[str, list[str]]
    sheet: list[Example]

    def steps(self) -> list[tuple[str, str, int, int]]:
        """Return the image filters in order, as (name, meaning, images dropped, images left)."""
        left, steps = self.images, []
        for name, count in self.dropped.items():
            left -= count
            steps.append((name, IMAGE_FILTERS[name], count, left))
        return steps


def make_report(
    images: ImageMeasurements,
    captions: CaptionJudgements,
    decisions: Decisions,
    rules: CurationRules,
    thumbnails: ThumbnailLookup,
    *,
    protocol: dict[str, Any],
    evaluation_sizes: Mapping[str, int],
    shown: int,
) -> Report:
    """Make the report of a curation, with at most ``shown`` examples of each filter.

    ``evaluation_sizes`` maps the name of each evaluation set to its number of images.
    """
    return Report(
        protocol=protocol,
        images=len(images),
        dropped=decisions.counts(),
        kept=len(decisions.kept),
        captions=decisions.captions,
        recall=decisions.recall,
        evaluation={name: _overlap(name, size, decisions) for name, size in evaluation_sizes.items()},
        histograms=_histograms(images, captions, decisions),
        image_examples=image_examples(images, decisions, thumbnails, shown),
        caption_examples=caption_examples(images, captions, decisions, rules.captions, thumbnails, shown),
        sheet=closest_pairs(decisions, thumbnails, rules.overlap.cosine, SHEET_PAIRS),
    )


def _overlap(name: str, size: int, decisions: Decisions) -> dict[str, int]:
    """Return numbers of one evaluation set: its images, those found in the source, copies dropped by each method."""
    dropped = [m for m in decisions.matches if m.dropped and m.eval_id.startswith(f"{name}/")]
    methods = Counter(match.method for match in dropped)
    found = len({match.eval_id for match in dropped})
    return {"images": size, "found": found} | {method: methods[method] for method in ("identical", "alike", "clip")}


def _histograms(images: ImageMeasurements, captions: CaptionJudgements, decisions: Decisions) -> list[Histogram]:
    """Return histograms of caption lengths, aspect ratios and languages, before filtering and of what is kept."""
    left = np.zeros(len(images), bool)
    left[decisions.kept] = True
    frequent = np.isin(captions.key, decisions.frequent)
    stays = left[captions.image] & (captions.code == KEPT) & ~frequent
    readable = images.problem == ""
    aspect = images.width / np.maximum(1, images.height)
    return [
        Histogram("Letters of a caption", _bins(captions.letters, stays, LETTER_EDGES)),
        Histogram("Width over height", _bins(aspect[readable], left[readable], ASPECT_EDGES)),
        Histogram("Language of a caption", _most_common(captions.language, stays)),
    ]


def _bins(values: np.ndarray, kept: np.ndarray, edges: tuple[float, ...]) -> list[tuple[str, int, int]]:
    """Return (label, number of values, number of kept values) of each interval between ``edges``."""
    labels = [f"below {edges[0]:g}", *(f"{a:g} to {b:g}" for a, b in itertools.pairwise(edges))]
    interval = np.digitize(values, edges)
    before, after = (np.bincount(p, minlength=len(edges) + 1).tolist() for p in (interval, interval[kept]))
    return list(zip([*labels, f"{edges[-1]:g} and above"], before, after, strict=True))


def _most_common(values: np.ndarray, kept: np.ndarray) -> list[tuple[str, int, int]]:
    """Return (language, captions, kept captions), the most common first; ``?`` stands for "not determined"."""
    before, after = Counter(values.tolist()), Counter(values[kept].tolist())
    return [(name, count, after[name]) for name, count in before.most_common(LANGUAGES_SHOWN)] or [("?", 0, 0)]


def write_report(directory: str, report: Report, images: ImageMeasurements, decisions: Decisions) -> None:
    """Write ``report.json``, ``report.html``, ``dropped.parquet`` and ``overlap.parquet``."""
    document = asdict(report)
    for shown in ("image_examples", "sheet"):
        document.pop(shown)
    files = {
        "report.json": json.dumps(document, indent=1, ensure_ascii=False).encode(),
        "report.html": render(report).encode(),
        "dropped.parquet": parquet_bytes(_dropped(images, decisions)),
        "overlap.parquet": parquet_bytes(_matches(decisions)),
    }
    for name, data in files.items():
        write_file(*filesystem_for(f"{directory}/{name}"), data)


def render(report: Report) -> str:
    """Return the report as an HTML page."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.get_template("report.html.j2")
    return template.render(report=report, filters=IMAGE_FILTERS, caption_filters=CAPTION_FILTERS)


def _dropped(images: ImageMeasurements, decisions: Decisions) -> pa.Table:
    """Return the dropped images with the filter, the detail and the image they are a copy of."""
    rows = np.flatnonzero(decisions.reason != "")
    columns = {"id": images.id, "filter": decisions.reason, "detail": decisions.detail, "partner": decisions.partner}
    return pa.table({name: pa.array(column[rows].tolist(), pa.string()) for name, column in columns.items()})


def _matches(decisions: Decisions) -> pa.Table:
    """Return all matches between training and evaluation images, see :class:`.overlap.Match`."""
    rows = []
    for match in decisions.matches:
        name, _, image_id = match.eval_id.partition("/")
        pair = {"eval_set": name, "eval_id": image_id, "train_id": match.train_id}
        rows.append(pair | {"method": match.method, "similarity": match.similarity, "dropped": match.dropped})
    return pa.Table.from_pylist(rows, MATCH_SCHEMA)
