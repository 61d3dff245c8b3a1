#!/usr/bin/env python
r"""Draw whole caption sets with a trained run, measure the images against controls, and write a report.

    python jobs/coco_eval.py run=runs/tiny captions=200 candidates=8

Writes <out>/report.html, report.json and receipt.json, and for each set a folder <out>/<set> with all candidates and
their scores; started again, it draws only what is missing. With COCO's captions, the FID Inception and the paper's
radii of blur:

    python jobs/coco_eval.py blur_radii=[0,1,2,4,8] extractor.weights=pt_inception-2015-12-05-6726825d.pth \
        'sets=[{name: coco, source: {path: annotations/captions_val2014.json, images: val2014}}]'

Beside training, each checkpoint on a small set, into the run's TensorBoard:

    python jobs/coco_eval.py watch=runs/small captions=64 candidates=4

What a receipt is for:

    python jobs/coco_eval.py verify runs/tiny/eval/receipt.json [--deep] [--draws 3]
    python jobs/coco_eval.py compare runs/tiny/eval/receipt.json runs/small/eval/receipt.json
    python jobs/coco_eval.py plan runs/tiny/eval/receipt.json captions=30000 candidates=512
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

import os
import sys
from dataclasses import dataclass, replace

from models.settings import setting
from t2i.cluster import RayConfig, start_ray
from t2i.config import Command, run_job
from t2i.evaluate import EvaluateConfig
from t2i.evaluate.evaluation import MeasuredSet, draw_and_measure, evaluate_set, how_to_measure
from t2i.evaluate.figures import Figure
from t2i.evaluate.prepare import check_sources, prepare_set, prepare_training
from t2i.evaluate.receipts.compare import compare, comparison_text, other_settings
from t2i.evaluate.receipts.deep import verify_deeply
from t2i.evaluate.receipts.findings import print_findings
from t2i.evaluate.receipts.make import write_receipt
from t2i.evaluate.receipts.plan import PlanConfig, plan, plan_text
from t2i.evaluate.receipts.settings import CompareConfig, VerifyConfig
from t2i.evaluate.receipts.stored import read_receipt
from t2i.evaluate.receipts.verify import verify
from t2i.evaluate.report import section, write_report
from t2i.evaluate.watch import WatchedRun, watch
from t2i.evaluate.work_list import run_models
from t2i.train.checkpoint.export import export_ema
from t2i.train.checkpoint.run_directory import RunDirectory, step_of


@dataclass
class CocoEval(EvaluateConfig):
    """An evaluation, and where it runs."""

    watch: str | None = setting(
        None,
        "run in training, in place of run: its checkpoints are measured as they come, into its TensorBoard",
        path="read",
    )
    ray: RayConfig = setting(RayConfig, "where to run")


@dataclass
class Verification(VerifyConfig):
    """A verification, and where it runs."""

    ray: RayConfig = setting(RayConfig, "where to run")


def main(config: CocoEval) -> None:
    """Evaluate a run, or the checkpoints of one in training."""
    if config.watch:
        follow(config.watch, config)
    else:
        evaluate(config)


def evaluate(config: CocoEval) -> list[MeasuredSet]:
    """Evaluate every caption set, and print the paths of receipt and report."""
    check_sources(config)
    models = run_models(config.run)
    measuring = how_to_measure(config, models)
    start_ray(config.ray)
    sets = [prepare_set(caption_set, config, models) for caption_set in config.sets]
    training = prepare_training(config)
    draw_and_measure(sets, training, measuring, config)
    measured = [evaluate_set(each, training, measuring, config) for each in sets]
    print(write_receipt(measured, measuring, models, config))
    print(write_report(config.out, config.run, [section(each, measuring, config) for each in measured]))
    return measured


def follow(run: str, config: CocoEval) -> None:
    """Measure every checkpoint of a run's prior until its training has ended, at this machine's lowest priority."""
    os.nice(19)
    out = f"{run}/watch" if config.out == f"{config.run}/eval" else config.out
    training_source = config.training_source if config.training_source and config.training_source.path else None

    def figures(copy: str, directory: str) -> dict[str, list[Figure]]:
        measured = evaluate(replace(config, run=copy, out=directory, training_source=training_source))
        return {each.prepared.caption_set.name: each.figures for each in measured}

    watch(watched_prior(run), out, figures)


def watched_prior(run: str) -> WatchedRun:
    """Return the run's prior as the watcher sees it."""
    directory = RunDirectory(f"{run}/prior")
    checkpoints = directory.checkpoints
    return WatchedRun(
        run,
        checkpoints.names,
        step_of,
        lambda name, model: export_ema(checkpoints.fetch(name), model),
        directory.is_finished,
    )


def verify_receipt(config: Verification) -> None:
    """Recompute all that a receipt says and print what was found; exit with 1 if anything is not as it says."""
    receipt = read_receipt(config.receipt)
    start_ray(config.ray)
    deep = verify_deeply(receipt, config)  # refuses other models at once
    if not (print_findings(verify(receipt, config.reference)) and print_findings(deep)):
        sys.exit(1)


def compare_receipts(config: CompareConfig) -> None:
    """Print the differences of two evaluations' figures."""
    a, b = read_receipt(config.a), read_receipt(config.b)
    print(comparison_text(compare(a, b), other_settings(a, b)))


def plan_evaluation(config: PlanConfig) -> None:
    """Print what a larger evaluation would take."""
    print(plan_text(plan(read_receipt(config.receipt), config), config))


COMMANDS = [
    Command(
        "verify",
        "recompute a receipt's figures from what is stored beside it",
        verify_receipt,
        Verification,
        ("receipt",),
    ),
    Command("compare", "differences of two evaluations' figures", compare_receipts, CompareConfig, ("a", "b")),
    Command("plan", "time, cost and storage of a larger evaluation", plan_evaluation, PlanConfig, ("receipt",)),
]

if __name__ == "__main__":
    run_job(main, CocoEval, "coco_eval", COMMANDS)
