"""The report of an evaluation: report.json with all figures and their protocol, report.html with pictures as well."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.evaluation import MeasuredSet, Measuring
from t2i.evaluate.histograms import CosineHistogram, cosine_histogram
from t2i.evaluate.image_store import was_jpeg
from t2i.evaluate.measure import ImageCaptions
from t2i.evaluate.page import render
from t2i.evaluate.protocol_record import protocol
from t2i.evaluate.sections import Section
from t2i.metrics.cautions import cautions
from t2i.metrics.clip_score import expected_best_of
from t2i.storage import filesystem_for, write_file


def section(measured: MeasuredSet, measuring: Measuring, config: EvaluateConfig) -> Section:
    """Return one caption set's part of the report."""
    pruned = config.pruning.prunes
    best_of_n = [] if pruned else expected_best_of(measured.summary.mean_by_rank[None]).tolist()
    return Section(
        name=measured.prepared.caption_set.name,
        protocol=protocol(measured, measuring, config),
        cautions=_cautions(measured, measuring),
        figures=measured.figures,
        best_of_n=best_of_n,
        cosines=_cosines(measured),
        galleries=measured.galleries,
        cards=measured.cards,
    )


def _cautions(measured: MeasuredSet, measuring: Measuring) -> list[str]:
    """Return what to beware of in the figures of the drawn images."""
    drawn = {figure.metric: figure for figure in measured.figures if (figure.subject, figure.blur) == ("best", 0)}
    fid, kid, score = (drawn.get(measuring.extractor.metric_name(name)) for name in ("fid", "kid", "is"))
    if fid is None:
        return []
    return cautions(
        fid.n_subject,
        fid.n_reference,
        measured.sets["best"].statistics(0.0).mean.size,
        generated_jpeg=False,
        reference_jpeg=was_jpeg(measured.prepared.layout.images("real")) if measured.prepared.real else None,
        reference_name=measured.prepared.caption_set.image_source.path,
        kid_subset=int(kid.details["subset_size"]) if kid else None,
        splits=int(score.details["splits"]) if score else None,
    )


def _cosines(measured: MeasuredSet) -> CosineHistogram:
    """Return the histogram of the drawn and of the real images' CLIP cosines."""
    sets = measured.sets
    captions = ImageCaptions.of_items(sets["best"].folder, measured.prepared.work_list.items)
    return cosine_histogram([sets[name] for name in ("best", "first", "real") if name in sets], captions)


def write_report(directory: str, run: str, sections: Sequence[Section]) -> str:
    """Write report.json and report.html, which needs no other file, into ``directory``; return the page's path."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    document = {"run": run, "made": made, "sets": [section.as_json() for section in sections]}
    _write(f"{directory}/report.json", json.dumps(document, indent=1, ensure_ascii=False))
    _write(f"{directory}/report.html", render(run, made, sections))
    return f"{directory}/report.html"


def _write(path: str, text: str) -> None:
    write_file(*filesystem_for(path), text.encode())
