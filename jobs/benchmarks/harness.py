"""Timing in turn, lower bounds on this machine, and a description of it, for all benchmarks.

Ratios of what was timed in turn are kept for ``make bench-check`` where a ``table`` is named (see ratios.py).
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch

from ratios import keep


def medians(measures: Mapping[str, Callable[[], float]], repeats: int, table: str = "") -> dict[str, float]:
    """Return the median of ``repeats`` calls of each measure, after a warm-up.

    They are called in turn, so that a machine that becomes slower or faster affects all alike. With the name of a
    ``table`` their ratios to the first are kept: that is what the others are compared with.
    """
    values: dict[str, list[float]] = {name: [] for name in measures}
    for repeat in range(repeats + 1):
        for name, measure in measures.items():
            value = measure()
            if repeat:
                values[name].append(value)
    found = {name: statistics.median(taken) for name, taken in values.items()}
    if table:
        keep(table, found)
    return found


def seconds(run: Callable[[], object], times: int = 1) -> Callable[[], float]:
    """Return a function that times ``run``: its mean seconds per call over ``times`` calls."""

    def measure() -> float:
        wait()
        begin = time.perf_counter()
        for _ in range(times):
            run()
        wait()
        return (time.perf_counter() - begin) / times

    return measure


def wait() -> None:
    """Wait until the GPU, if this process uses one, has done all that it was asked for."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def timed(candidates: Mapping[str, Callable[[], object]], repeats: int, table: str = "") -> dict[str, float]:
    """Return the median seconds per call of each candidate, called in turn; for ``table`` see :func:`medians`."""
    return medians({name: seconds(run) for name, run in candidates.items()}, repeats, table)


def gemm_flops(dtype: torch.dtype = torch.float32, size: int = 1024, device: str = "cpu") -> float:
    """Return the FLOP/s of a large matrix product on this machine now."""
    a = torch.randn(size, size, dtype=dtype, device=device)
    return 2 * size**3 / timed({"gemm": lambda: torch.mm(a, a)}, repeats=9)["gemm"]


def read_bandwidth(size: int = 1 << 28) -> float:
    """Return how many bytes per second this machine now reads from memory, outside its caches."""
    words = torch.ones(size // 4)
    return size / timed({"sum": words.sum}, repeats=5)["sum"]


def copy_bandwidth(size: int, device: str) -> float:
    """Return how many bytes per second a copy of ``size`` bytes now reads and writes."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / timed({"copy": lambda: target.copy_(source)}, repeats=9)["copy"]


def machine() -> str:
    """Return a line that describes this machine, for docs/benchmarks.md."""
    threads = torch.get_num_threads()
    return f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, torch {torch.__version__}"
