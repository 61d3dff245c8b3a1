"""Continuous batching inside an asyncio server: many requests share one engine, which steps on a thread of its own.

Every call of the engine goes through that one thread. Whoever joins or leaves therefore does so between two steps, in
order, without a lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from t2i.engine import Engine, FinishedCandidate, Progress, Request, StepResult
from t2i.logs import get_logger

Event = FinishedCandidate | Progress
ResultT = TypeVar("ResultT")

logger = get_logger("serve.engine")


class EngineStopped(RuntimeError):
    """The engine failed; its replica has to be replaced."""


class EngineLoop:
    """Drives an engine while it has work. Must be made inside a running event loop."""

    def __init__(self, engine: Engine) -> None:
        self.steps = 0
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._queues: dict[str, asyncio.Queue[Event | None]] = {}
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def requests(self) -> int:
        """Requests that somebody waits for."""
        return len(self._queues)

    def check(self) -> None:
        """Raise EngineStopped if the engine can no longer work."""
        if self._task.done():
            raise EngineStopped("the engine stopped: see the log of its replica.")

    async def close(self) -> None:
        """Stop stepping and end the thread."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._thread.shutdown()

    async def stream(self, request: Request, deadline: float) -> AsyncIterator[Event]:
        """Finished candidates as they come, and progress at every percent; the last event is full progress.

        Whoever stops iterating takes the request out of the engine within one step.

        Raises:
            RequestError: the engine refuses the request.
            TimeoutError: ``deadline`` (Unix time) passed first.
            EngineStopped: the engine failed.
        """
        self.check()
        self._queues[request.id] = queue = asyncio.Queue()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.time())):
                await self._on_thread(self._engine.add, request)
            self._wake.set()
            shown = -1
            while True:
                event = await asyncio.wait_for(queue.get(), deadline - time.time())
                if event is None:
                    self.check()
                if isinstance(event, Progress):
                    percent = 100 * event.tokens_done // event.tokens_total
                    if percent > shown:
                        yield event
                    shown = percent
                    if event.tokens_done == event.tokens_total:
                        return
                else:
                    yield event
        finally:
            del self._queues[request.id]
            self._thread.submit(self._engine.cancel, request.id).add_done_callback(_log_spent)

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._engine.has_work:
                    self._publish(await self._on_thread(self._engine.step))
                    self.steps += 1
        finally:
            for queue in self._queues.values():
                queue.put_nowait(None)

    def _publish(self, result: StepResult) -> None:
        pass

    async def _on_thread(self, function: Callable[..., ResultT], *arguments: object) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def _log_spent(future: Future[int]) -> None:
    pass
