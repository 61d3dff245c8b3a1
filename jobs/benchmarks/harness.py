"""Timing in turn, lower bounds on this machine, and a description of it, for all benchmarks."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch


def medians(measures: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Return the median of ``repeats`` calls of each measure, after a warm-up.

    They are called in turn, so that a machine that becomes slower or faster affects all alike.
    """
    values: dict[str, list[float]] = {name: [] for name in measures}
    for repeat in range(repeats + 1):
        for name, measure in measures.items():
            value = measure()
            if repeat:
                values[name].append(value)
    return {name: statistics.median(taken) for name, taken in values.items()}


def seconds(run: Callable[[], object], times: int = 1) -> Callable[[], float]:
    """Return a function that times ``run``: its mean seconds per call over ``times`` calls."""

    def measure() -> float:
        begin = time.perf_counter()
        for _ in range(times):
            run()
        return (time.perf_counter() - begin) / times

    return measure


def timed(candidates: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median seconds per call of each candidate, called in turn."""
    return medians({name: seconds(run) for name, run in candidates.items()}, repeats)


def gemm_flops(dtype: torch.dtype = torch.float32, size: int = 1024) -> float:
    """Return the FLOP/s of a large matrix product on this machine now."""
    a = torch.randn(size, size, dtype=dtype)
    return 2 * size**3 / timed({"gemm": lambda: torch.mm(a, a)}, repeats=9)["gemm"]


def read_bandwidth(size: int = 1 << 28) -> float:
    """Return how many bytes per second this machine now reads from memory, outside its caches."""
    words = torch.ones(size // 4)
    return size / timed({"sum": words.sum}, repeats=5)["sum"]


def machine() -> str:
    """Return a line that describes this machine, for docs/benchmarks.md."""
    threads = torch.get_num_threads()
    return f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, torch {torch.__version__}"
