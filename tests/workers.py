"""Processes that train together in tests."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from torch.multiprocessing.spawn import start_processes

IMPORTED = ["pytest", "models.dvae", "models.prior", "models.reranker", "t2i.train.loop", "t2i.train.tasks.prior"]


def run_workers(work: Callable[..., None], arguments: tuple[Any, ...] = (), count: int = 2) -> None:
    """Run ``work(rank, *arguments)`` in ``count`` processes until all have ended; the first error is raised.

    They are forked from one process that has imported torch and the models: each would need ten seconds for it.
    """
    multiprocessing.set_forkserver_preload(IMPORTED)
    start_processes(work, arguments, nprocs=count, start_method="forkserver")
