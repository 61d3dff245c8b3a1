"""What the benchmarks share: taking turns, and naming the machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch


def timed(candidates: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, taken in turn after one warm-up, so that a drifting machine slows all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + 1):
        for name, run in candidates.items():
            begin = time.perf_counter()
            run()
            if repeat:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def gemm_flops(size: int = 1024) -> float:
    """FLOP/s of a large fp32 matrix product on this machine now."""
    a = torch.randn(size, size)
    seconds = timed({"gemm": lambda: torch.mm(a, a)}, repeats=9)["gemm"]
    return 2 * size**3 / seconds


def machine() -> str:
    """One line for the record."""
    threads = torch.get_num_threads()
    return f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, torch {torch.__version__}"
