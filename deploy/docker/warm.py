#!/usr/bin/env python
"""Compile what decodes image tokens on a CPU into the caches of an image: kernels, and torch.compile's decode steps.

    python deploy/docker/warm.py            # while the image is built
    python deploy/docker/warm.py --check    # in a container: fails if something has to be compiled

The steps are those of the shipped models with few slots and one thread. For other models, slots, threads or
drafts, and on another kind of processor, a container compiles its own, once in its life.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from torch._dynamo.utils import counters
from torch._inductor.runtime.cache_dir_utils import cache_dir

from models.checkpoint import load_model
from models.dtypes import DTYPES
from models.prior import Prior, PriorConfig
from models.prior.decoding.kernels import cache_directory, kernels
from models.run_layout import RunLayout
from t2i.engine import Engine
from t2i.engine.drafting import AUTO_WINDOW

SHIPPED = RunLayout(Path(__file__).resolve().parents[2] / "models/trained/small")
SLOTS = (1, 4)
"""Numbers of candidates at once for which compiling pays on a CPU."""


def main(check: bool) -> None:
    """Compile everything, and print what the caches had and how long it took.

    Raises:
        SystemExit: something does not compile, or with ``check`` something was not in the caches.
    """
    torch.set_num_threads(1)
    begin, missing = time.perf_counter(), []
    for dtype in DTYPES:
        missing += [f"kernels in {dtype}"] if not has_kernels(dtype) else []
        prior = load_model(Prior, PriorConfig, SHIPPED.prior, dtype=dtype)
        missing += [f"{slots} slots in {dtype}" for slots in SLOTS if not has_step(prior, slots)]
    seconds = time.perf_counter() - begin
    print(f"compiled in {seconds:.0f} s: {', '.join(missing)}" if missing else f"found all in {seconds:.0f} s")
    if check and missing:
        sys.exit("the caches are not for this machine.")


def has_kernels(dtype: str) -> bool:
    """Load the kernels for ``dtype``, and return whether they were in the cache."""
    before = compiled(cache_directory())
    if kernels(getattr(torch, dtype)) is None:
        sys.exit(f"the kernels in {dtype} do not compile: is there a C compiler?")
    return compiled(cache_directory()) == before


def has_step(prior: Prior, slots: int) -> bool:
    """Compile the decode step of ``slots`` candidates, and return whether its compiled code was in the cache.

    In bfloat16 torch (2.14) caches the code alone and works out the graph each time, as it can store no weight that is
    packed for oneDNN.
    """
    torch.compiler.reset()
    counters.clear()
    before = compiled(Path(cache_dir()))
    Engine(prior, slots, window=AUTO_WINDOW).compile()
    if not counters["inductor"]:
        sys.exit(f"the step of {slots} slots does not compile: see the warning above.")
    return not counters["inductor"]["fxgraph_cache_miss"] and compiled(Path(cache_dir())) == before


def compiled(folder: Path) -> set[Path]:
    """Return the libraries in a cache."""
    return set(folder.rglob("*.so"))


if __name__ == "__main__":
    main(check=sys.argv[1:] == ["--check"])
