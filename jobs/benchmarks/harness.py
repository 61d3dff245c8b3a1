"""What the benchmarks share: taking turns, and naming the machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch


def medians(measures: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median of what each returns, called in turn after one warm-up, so that a drifting machine slows all alike."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for repeat in range(repeats + 1):
        for name, measure in measures.items():
            value = measure()
            if repeat:
                values[name].append(value)
    return {name: statistics.median(taken) for name, taken in values.items()}


def seconds(run: Callable[[], object], times: int = 1) -> Callable[[], float]:
    """A measure of ``run``: seconds per call, over ``times`` calls."""

    def measure() -> float:
        begin = time.perf_counter()
        for _ in range(times):
            run()
        return (time.perf_counter() - begin) / times

    return measure


def timed(candidates: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, taken in turn."""
    return medians({name: seconds(run) for name, run in candidates.items()}, repeats)


def gemm_flops(dtype: torch.dtype = torch.float32, size: int = 1024) -> float:
    """FLOP/s of a large matrix product on this machine now."""
    a = torch.randn(size, size, dtype=dtype)
    return 2 * size**3 / timed({"gemm": lambda: torch.mm(a, a)}, repeats=9)["gemm"]


def read_bandwidth(size: int = 1 << 28) -> float:
    """Bytes per second that this machine reads now from memory that no cache holds."""
    words = torch.ones(size // 4)
    return size / timed({"sum": words.sum}, repeats=5)["sum"]


def machine() -> str:
    """One line for the record."""
    threads = torch.get_num_threads()
    return f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, torch {torch.__version__}"
