"""Continuous batching inside an asyncio server: many requests share one engine that steps on its own thread.

Every call of the engine goes through that one thread. Whoever joins or leaves therefore does so between two
steps, in order, without a lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from t2i.engine import CompletedRows, Engine, FinishedCandidate, Request, StepResult, TokenProgress
from t2i.logs import get_logger

Event = CompletedRows | FinishedCandidate | TokenProgress
ResultT = TypeVar("ResultT")

logger = get_logger("serve.engine")


class EngineStopped(RuntimeError):
    """The engine failed; its replica has to be replaced."""


class EngineLoop:
    """Steps an engine while it has work. Has to be made inside a running event loop."""

    def __init__(self, engine: Engine) -> None:
        self.steps = 0
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._inboxes: dict[str, _Inbox] = {}
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def requests(self) -> int:
        """Requests that somebody waits for."""
        return len(self._inboxes)

    def check(self) -> None:
        """Raise EngineStopped if the engine can no longer work."""
        if self._task.done():
            raise EngineStopped("the engine stopped: see the log of its replica.")

    async def stream(self, request: Request) -> AsyncGenerator[Event]:
        """Candidates (and rows, if asked for) as they are completed, progress at every percent; the whole comes last.

        However the iteration ends, the request has left the engine within one step.

        Raises:
            RequestError: the engine refuses the request.
            TimeoutError: its deadline passed first; before its first step nothing was computed.
            EngineStopped: the engine failed.
        """
        self.check()
        inbox = self._inboxes[request.id] = _Inbox()
        try:
            await self._on_thread(self._engine.add, request)
            self._wake.set()
            while True:
                event = await inbox.get()
                yield event
                if isinstance(event, TokenProgress) and event.tokens_done == event.tokens_total:
                    return
        finally:
            del self._inboxes[request.id]
            self._thread.submit(self._leave, request.id)

    def _leave(self, request_id: str) -> None:
        if spent := self._engine.cancel(request_id):
            _log_unfinished(request_id, spent)

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._engine.has_work:
                    result = await self._on_thread(self._engine.step)
                    self.steps += bool(result.progress)
                    self._deliver(result)
        except Exception:
            logger.exception("the engine failed")
            raise
        finally:
            for inbox in self._inboxes.values():
                inbox.put(EngineStopped("the engine stopped: see the log of its replica."))

    def _deliver(self, result: StepResult) -> None:
        made: list[CompletedRows | FinishedCandidate] = [*result.rows, *result.finished]
        for event in made:
            if event.request_id in self._inboxes:
                self._inboxes[event.request_id].put(event)
        for request_id, spent in result.expired.items():
            _log_unfinished(request_id, spent)
            if request_id in self._inboxes:
                self._inboxes[request_id].put(TimeoutError("the deadline of the request passed."))
        for request_id, progress in result.progress.items():
            if request_id in self._inboxes:
                self._inboxes[request_id].put_progress(progress)

    async def _on_thread(self, function: Callable[..., ResultT], *arguments: object) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def _log_unfinished(request_id: str, spent: int) -> None:
    logger.info("request %s left the engine unfinished, %d image tokens were spent on it", request_id, spent)


class _Inbox:
    """The events of one request, between the engine's loop and whoever waits for them."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._percent = -1

    def put(self, event: Event | Exception) -> None:
        """Hand over what was made, or why no more will come."""
        self._events.put_nowait(event)

    def put_progress(self, progress: TokenProgress) -> None:
        """Hand over progress if it has come at least a percent further."""
        percent = 100 * progress.tokens_done // progress.tokens_total
        if percent > self._percent:
            self._percent = percent
            self.put(progress)

    async def get(self) -> Event:
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event
