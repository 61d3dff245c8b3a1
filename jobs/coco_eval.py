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

from models.settings import setting
from t2i.cluster import RayConfig, start_ray
from t2i.config import run_job
from t2i.evaluate import EvaluateConfig, section, write_report
from t2i.evaluate.evaluation import draw_and_measure, evaluate_set, how_to_measure
from t2i.evaluate.prepare import check_sources, prepare_set, prepare_training
from t2i.evaluate.work_list import run_models


@dataclass
class CocoEval(EvaluateConfig):
    """An evaluation, and where it runs."""

    ray: RayConfig = setting(RayConfig, "where to run")


def main(config: CocoEval) -> None:
    """Evaluate every caption set and print the path of the report."""
    check_sources(config)
    models = run_models(config.run)
    measuring = how_to_measure(config, models)
    start_ray(config.ray)
    sets = [prepare_set(caption_set, config, models) for caption_set in config.sets]
    training = prepare_training(config)
    draw_and_measure(sets, training, measuring, config)
    measured = [evaluate_set(each, training, measuring, config) for each in sets]
    print(write_report(config.out, config.run, [section(each, measuring, config) for each in measured]))


if __name__ == "__main__":
    run_job(main, CocoEval, "coco_eval")
