r"""Draw whole caption sets with a trained run, measure the images against controls, and write a report.

    python jobs/coco_eval.py run=runs/tiny captions=200 candidates=8

Writes <out>/report.html and report.json, and for each set a folder with every candidate and its score; started
again, it draws only what is missing. Other captions, the FID Inception and the paper's blur:

    python jobs/coco_eval.py blur_radii=[0,1,2,4,8] extractor.weights=pt_inception-2015-12-05-6726825d.pth \
        'sets=[{name: coco, source: {path: annotations/captions_val2014.json, images: val2014}}]'
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import dataclass
from pathlib import Path

from models.checkpoint import CONFIG, load_config_file
from models.prior import PriorConfig
from models.run_layout import RunLayout
from models.settings import setting
from t2i.cluster import RayConfig, start_ray
from t2i.config import run_job
from t2i.contact_sheet import contact_sheet
from t2i.data import check_pairs
from t2i.evaluate import CaptionSet, EvaluateConfig, Section, write_report
from t2i.evaluate.candidates import Candidates
from t2i.evaluate.figures import all_figures
from t2i.evaluate.gallery import cards, choose, sheet_rows
from t2i.evaluate.pipeline import extract_features, generate_candidates, measure_joint_elb
from t2i.evaluate.report import protocol
from t2i.evaluate.work_list import choose_captions, make_work_list, run_models, write_work_list
from t2i.metrics.clip_score import expected_best_of
from t2i.metrics.features import extractor_protocol


@dataclass
class CocoEval(EvaluateConfig):
    """An evaluation, and where it runs."""

    ray: RayConfig = setting(RayConfig, "where to run")


def main(config: CocoEval) -> None:
    check(config)
    start_ray(config.ray)
    sections = [evaluate(caption_set, config) for caption_set in config.sets]
    print(write_report(config.out, config.run, sections))


def check(config: CocoEval) -> None:
    """Refuse what would fail after hours of drawing."""
    if config.pruning.prunes:
        prior: PriorConfig = load_config_file(Path(RunLayout(config.run).prior) / CONFIG, PriorConfig)
        config.pruning.check((prior.grid_height, prior.grid_width))
    extractor_protocol(config.extractor)
    for source in [s.source for s in config.sets if s.images] + ([config.floor] if config.floor else []):
        check_pairs(source)


def evaluate(caption_set: CaptionSet, config: CocoEval) -> Section:
    """One caption set: draw, rank and keep; then describe and measure."""
    work_list = make_work_list(choose_captions(caption_set, config), config, run_models(config.run))
    directory = write_work_list(work_list, f"{config.out}/{caption_set.name}")
    candidates = generate_candidates(work_list, directory, config)
    choice = choose(candidates, config.shown, config.seed)
    sets = extract_features(caption_set, candidates, choice.all, config)
    extractor = extractor_protocol(config.extractor)
    figures = all_figures(sets, candidates, extractor, config.blur_radii, config.seed)
    contact_sheet(sheet_rows(choice.sample, work_list, candidates)).save(directory.parent / "contact_sheet.png")
    return Section(
        name=caption_set.name,
        protocol=protocol(config, caption_set, work_list, candidates.truncated),
        figures=figures + measure_joint_elb(caption_set, candidates, config),
        best_of_n=best_of_n(candidates, config),
        choice=choice,
        cards=cards(choice, work_list, candidates, sets),
    )


def best_of_n(candidates: Candidates, config: CocoEval) -> list[float]:
    """Mean best cosine of n random candidates; where all but the better ones were stopped none are random."""
    return [] if config.pruning.prunes else expected_best_of(candidates.scores).tolist()


if __name__ == "__main__":
    run_job(main, CocoEval, "coco_eval")
