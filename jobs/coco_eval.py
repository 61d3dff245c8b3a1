#!/usr/bin/env python
r"""Draw whole caption sets with a trained run, measure the images against controls, and write a report.

    python jobs/coco_eval.py run=runs/tiny captions=200 candidates=8

Writes <out>/report.html and report.json, and for each set a folder <out>/<set> with all candidates and their scores;
started again, it draws only what is missing. With COCO's captions, the FID Inception and the paper's radii of blur:

    python jobs/coco_eval.py blur_radii=[0,1,2,4,8] extractor.weights=pt_inception-2015-12-05-6726825d.pth \
        'sets=[{name: coco, source: {path: annotations/captions_val2014.json, images: val2014}}]'
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import dataclass

from models.run_sizes import run_sizes
from models.settings import setting
from t2i.cluster import RayConfig, start_ray
from t2i.config import run_job
from t2i.contact_sheet import contact_sheet
from t2i.data import Caption, check_pairs
from t2i.evaluate import CaptionSet, EvaluateConfig, Section, write_report
from t2i.evaluate.candidates import Candidates
from t2i.evaluate.figures import all_figures
from t2i.evaluate.gallery import choose_galleries, make_cards, sheet_rows
from t2i.evaluate.pipeline import extract_features, generate_candidates, measure_joint_elb
from t2i.evaluate.report import protocol
from t2i.evaluate.selection import choose_captions
from t2i.evaluate.training_images import TrainingImages, choose_training_images
from t2i.evaluate.usable_images import require_images
from t2i.evaluate.work_list import WorkList, make_work_list, run_models, write_work_list
from t2i.metrics.clip_score import expected_best_of
from t2i.metrics.features import extractor_protocol


@dataclass
class CocoEval(EvaluateConfig):
    """An evaluation, and where it runs."""

    ray: RayConfig = setting(RayConfig, "where to run")


def main(config: CocoEval) -> None:
    """Evaluate every caption set and print the path of the report."""
    models = run_models(config.run)
    check(config)
    start_ray(config.ray)
    work_lists = [make_work_list(choose(caption_set, config), config, models) for caption_set in config.sets]
    training = choose_training_images(config)
    sections = [evaluate(*work, training, config) for work in zip(config.sets, work_lists, strict=True)]
    print(write_report(config.out, config.run, sections))


def check(config: CocoEval) -> None:
    """Raise a UserError now for settings and files that would otherwise fail after hours of drawing."""
    sizes = run_sizes(config.run)
    config.pruning.check(sizes.grid)
    extractor_protocol(config.extractor)
    sources = [caption_set.source for caption_set in config.sets if caption_set.images]
    if config.training_source and config.training_source.path:
        sources.append(config.training_source)
    for source in sources:
        check_pairs(source)


def choose(caption_set: CaptionSet, config: CocoEval) -> list[Caption]:
    """Return the captions to draw of one set, whose images are there if it is to be compared with them."""
    captions = choose_captions(caption_set, config)
    if caption_set.images:
        ids = [caption.id for caption in captions]
        require_images(f"sets: {caption_set.name}", caption_set.source, ids, config.run, remedy="images=false")
    return captions


def evaluate(caption_set: CaptionSet, work_list: WorkList, training: TrainingImages, config: CocoEval) -> Section:
    """Draw, rank and store the candidates of one caption set, then measure them; return its section of the report."""
    directory = write_work_list(work_list, f"{config.out}/{caption_set.name}")
    candidates = generate_candidates(work_list, directory, config)
    galleries = choose_galleries(candidates, config.shown, config.seed)
    sets = extract_features(caption_set, candidates, training, galleries.ids, config)
    extractor = extractor_protocol(config.extractor)
    figures = all_figures(sets, candidates, extractor, config.blur_radii, config.seed)
    contact_sheet(sheet_rows(galleries.sample, work_list, candidates)).save(directory.parent / "contact_sheet.png")
    return Section(
        name=caption_set.name,
        protocol=protocol(config, caption_set, work_list, training, candidates.truncated),
        figures=figures + measure_joint_elb(caption_set, candidates, config),
        best_of_n=best_of_n(candidates, config),
        galleries=galleries,
        cards=make_cards(galleries.ids, work_list, candidates, sets),
    )


def best_of_n(candidates: Candidates, config: CocoEval) -> list[float]:
    """Return the expected cosine of the best of 1, 2, ... candidates; empty if pruned: survivors are not random."""
    return [] if config.pruning.prunes else expected_best_of(candidates.scores).tolist()


if __name__ == "__main__":
    run_job(main, CocoEval, "coco_eval")
