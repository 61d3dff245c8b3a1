"""Time the distances between two sets of features, and the trace term beside scipy's matrix square root.

    python jobs/benchmarks/bench_fid.py                   at 10 000 images a side, 2048 features
    python jobs/benchmarks/bench_fid.py n=2000 repeats=1  briefly

All rows of a table get the same features and are timed in turn. Keep the results in docs/benchmarks.md, with a
description of the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.linalg import sqrtm

from harness import machine, timed
from models.settings import setting
from t2i.config import run_job
from t2i.metrics.cmmd import cmmd
from t2i.metrics.fid import trace_of_root_product
from t2i.metrics.fid_interval import fid_interval
from t2i.metrics.inception_score import inception_score
from t2i.metrics.kid import kernel_distance
from t2i.metrics.mind import mind
from t2i.metrics.prdc import PRDC_SAMPLE, prdc
from t2i.metrics.statistics import FeatureStatistics

Runs = dict[str, Callable[[], object]]


@dataclass
class BenchFID:
    """The size of the sets."""

    n: int = setting(PRDC_SAMPLE, "images of a side", at_least=4)
    width: int = setting(2048, "features of an image", at_least=1)
    repeats: int = setting(3, "timed runs of each, in turn; the median is printed", at_least=1)
    threads: int = setting(2, "CPU threads of torch; numpy's are OMP_NUM_THREADS", at_least=1)


def main(config: BenchFID) -> None:
    """Print both tables."""
    torch.set_num_threads(config.threads)
    random = np.random.default_rng(0)
    mixing = random.normal(size=(config.width, config.width)) / config.width**0.5
    generated, real = (features(random, config.n, mixing, shift) for shift in (0.1, 0.0))
    print(f"{machine()}; {config.n} x {config.n} images, {config.width} features")
    statistics = [FeatureStatistics.of(side) for side in (generated, real)]
    cov_a, cov_b = (side.covariance for side in statistics)
    roots: Runs = {
        "scipy.linalg.sqrtm": lambda: sqrtm(cov_a @ cov_b),
        "ours": partial(trace_of_root_product, cov_a, cov_b),
    }
    table("The trace term of FID", roots, config.repeats)
    distances: Runs = {
        "statistics of one side": partial(FeatureStatistics.of, generated),
        "interval of FID": partial(fid_interval, generated, statistics[1]),
        "KID, 100 subsets": partial(kernel_distance, generated, real),
        "precision, recall, density, coverage": partial(prdc, real, generated),
        "CMMD": partial(cmmd, generated, real),
        "MIND, 1000 directions": partial(mind, generated, real),
        "inception score, 1008 classes": partial(inception_score, generated[:, :1008]),
    }
    table("All distances", distances, config.repeats)


def features(random: np.random.Generator, n: int, mixing: np.ndarray, shift: float) -> np.ndarray:
    """Return correlated features float32 [n, width], which are not negative, as an Inception's are."""
    values: np.ndarray = np.maximum(random.normal(size=(n, len(mixing))) @ mixing + shift, 0).astype(np.float32)
    return values


def table(title: str, runs: Runs, repeats: int) -> None:
    """Print seconds, and the speed over the first's."""
    print(f"\n## {title}")
    seconds = timed(runs, repeats, title)
    first = next(iter(seconds.values()))
    for name, value in seconds.items():
        print(f"{name:<40}{value:>9.2f} s {first / value:>7.2f} x")


if __name__ == "__main__":
    run_job(main, BenchFID, "bench_fid")
