"""Batches that concurrent requests fill together, and how long they wait and take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from ray import serve

from t2i.serve.monitoring.stage import StageMonitor

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
ArgumentT = TypeVar("ArgumentT")
AnswerT = TypeVar("AnswerT")

WAIT_S = 0.005
"""Seconds for which a batch that is not full waits for more."""


class Batches(Generic[ItemT, ResultT]):
    """Hands items to ``compute`` in batches of up to ``size``, on a thread of its own.

    Always the same: torch keeps memory and helpers for every thread that has ever computed.
    """

    def __init__(self, compute: Callable[[list[ItemT]], list[ResultT]], size: int, stage: str) -> None:
        self._compute, self._monitor = compute, StageMonitor(stage)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=stage)
        # Not as a decorator of the method: its queue would be shared by all instances and tied to one event loop.
        self._one = serve.batch(max_batch_size=size, batch_wait_timeout_s=WAIT_S)(self._many)

    async def __call__(self, item: ItemT) -> ResultT:
        """Return the result for an item, whose batch concurrent calls share."""
        result: ResultT = await self._one((item, time.perf_counter()))
        return result

    async def run(self, function: Callable[[ArgumentT], AnswerT], argument: ArgumentT) -> AnswerT:
        """Return what a function gives on the thread, between batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, argument)

    async def _many(self, arrived: list[tuple[ItemT, float]]) -> list[ResultT]:
        """Compute what :func:`serve.batch` has collected."""
        begin = time.perf_counter()
        for _, since in arrived:
            self._monitor.waited(begin - since)
        results = await self.run(self._compute, [item for item, _ in arrived])
        self._monitor.computed(time.perf_counter() - begin)
        return results
