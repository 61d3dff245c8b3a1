"""Time the evaluation's pipeline beside the same stages called one after the other in this process, without Ray.

    python jobs/benchmarks/bench_eval.py run=models/trained/small captions=256 candidates=8

The pipeline's time begins when its first shard is finished, so that loading models is in neither. Keep the results in
docs/benchmarks.md, with a description of the machine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from harness import machine
from models.settings import setting
from ratios import keep
from t2i.cluster import RayConfig, start_ray
from t2i.config import run_job
from t2i.data import SourceConfig
from t2i.evaluate import CaptionSet, EvaluateConfig
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.pipeline import draw
from t2i.evaluate.selection import choose_captions
from t2i.evaluate.stages import ExtractFeatures, Generate, Row, Score
from t2i.evaluate.work_list import WorkList, make_work_list, run_models


@dataclass
class BenchEval(EvaluateConfig):
    """An evaluation of a single set, drawn and measured in both ways."""

    ray: RayConfig = setting(RayConfig, "where to run")


def main(config: BenchEval) -> None:
    """Print images per second of both, and their ratio."""
    caption_set = CaptionSet("val", SourceConfig("jobs/datasets/emoji64/val.parquet"), images=False)
    work_list = make_work_list(choose_captions(caption_set, config), config, run_models(config.run))
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        alone = in_this_process(work_list, SetLayout(f"{folder}/alone"), config)
        start_ray(config.ray)
        with_ray = through_ray(work_list, SetLayout(f"{folder}/ray"), config)
    keep("evaluation", {"one process": 1 / alone, "Ray Data": 1 / with_ray})
    print(f"one process, {torch.get_num_threads()} threads  {alone:8.2f} images/s drawn, ranked and measured")
    print(f"Ray Data                {with_ray:8.2f} images/s  ({with_ray / alone:.0%})")


def in_this_process(work_list: WorkList, layout: SetLayout, config: EvaluateConfig) -> float:
    """Return the images per second of the stages, one shard after the other, after the first."""
    stages: list[Callable[[Row], Row]] = [Generate(config), Score(config), ExtractFeatures(config)]
    begun = 0.0
    for shard, items in enumerate(work_list.shards):
        row: Row = {"shard": shard, "stored": False, "items": [asdict(item) for item in items]}
        row |= {"candidates": layout.candidates, "features": layout.features("bench", "drawn")}
        for stage in stages:
            row = stage(row)
        begun = begun or time.perf_counter()
    return rate(work_list, len(work_list.shards) - 1, time.perf_counter() - begun)


def through_ray(work_list: WorkList, layout: SetLayout, config: EvaluateConfig) -> float:
    """Return the images per second of the pipeline after its first shard, by the times of the done-records."""
    draw([(work_list, layout)], "bench", config)
    ends = sorted(file.stat().st_mtime for file in Path(layout.features("bench", "drawn")).glob("*.json"))
    return rate(work_list, len(ends) - 1, ends[-1] - ends[0])


def rate(work_list: WorkList, shards: int, seconds: float) -> float:
    """Return the candidates per second of so many shards."""
    return shards * work_list.shard * work_list.candidates / seconds


if __name__ == "__main__":
    run_job(main, BenchEval, "bench_eval")
