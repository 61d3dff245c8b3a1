"""Continuous batching inside an asyncio server: many requests share one engine, which steps on a thread of its own.

    event loop                                           engine thread (the only one that calls the engine)

    stream(a)   ---- add(a) ---------------------------> queued behind the step that is running
    _run        ---- step() ---------------------------> one image token for every running candidate
    _deliver   <---- StepResult ------------------------
       |  inbox of a   inbox of b
       v
    stream(a)   yields its events; when it ends, however:
                ---- cancel(a) ------------------------> a leaves before any step that is not yet submitted

A thread pool of one thread runs what is submitted in order. Requests therefore join and leave between two steps, and
the engine needs no lock. The inboxes belong to the event loop alone, so they need none either.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from t2i.engine import Engine, FinishedCandidate, PartialCandidate, Request, StepResult, TokenProgress
from t2i.logs import get_logger

Event = PartialCandidate | FinishedCandidate | TokenProgress
ResultT = TypeVar("ResultT")

logger = get_logger("serve.engine")


class EngineStoppedError(RuntimeError):
    """The engine failed and cannot continue; its replica has to be replaced."""


class EngineLoop:
    """Steps an engine while it has work; make it inside a running event loop."""

    def __init__(self, engine: Engine) -> None:
        self.steps = 0  # that made image tokens
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._inboxes: dict[str, _Inbox] = {}
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def requests(self) -> int:
        """How many requests are being streamed."""
        return len(self._inboxes)

    def check(self) -> None:
        """Raise EngineStoppedError if the engine has failed."""
        if self._task.done():
            raise EngineStoppedError("the engine stopped: see the log of its replica.")

    async def stream(self, request: Request) -> AsyncGenerator[Event]:
        """Run a request; yield its candidates as they are completed, and its progress at every further percent.

        The last event is the progress with all tokens done. Whichever way the iteration ends, the request then leaves
        the engine, after the step that is running at that moment, if any.

        Raises:
            RequestError: the engine refuses the request.
            TimeoutError: the deadline passed; of a request that came too late nothing was computed.
            EngineStoppedError: the engine failed.
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
            # Also when the caller has gone: the generator is then closed at its yield, or cancelled while it waits.
            # Submitted without awaiting the result, so that a cancelled task ends at once. The order of the thread's
            # queue is enough: this comes after the add and before every step submitted from now on.
            del self._inboxes[request.id]
            self._thread.submit(self._leave, request.id)

    def _leave(self, request_id: str) -> None:
        """Take a request out of the engine, if it is still there, and log what was spent on it."""
        if spent := self._engine.cancel(request_id):
            _log_unfinished(request_id, spent)

    async def _run(self) -> None:
        """Step while there is work, else sleep until a request is added; if a step fails, tell all requests and end."""
        try:
            while True:
                await self._wake.wait()
                # Cleared before has_work is asked: a request that is added after that sets it again.
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
                inbox.put(EngineStoppedError("the engine stopped: see the log of its replica."))

    def _deliver(self, result: StepResult) -> None:
        """Put what a step gave into the inboxes of the requests that are still being streamed."""
        # A request may have left while the step ran, so that its inbox is gone. Progress comes last: at 100 % its
        # stream ends, and the candidates that were finished in this step must be out by then.
        candidates: list[PartialCandidate | FinishedCandidate] = [*result.partial, *result.finished]
        for candidate in candidates:
            if candidate.request_id in self._inboxes:
                self._inboxes[candidate.request_id].put(candidate)
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
    """A queue of the events of one request, from the engine's loop to whoever iterates over its stream."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._percent = -1

    def put(self, event: Event | Exception) -> None:
        """Append an event, or the exception that ends the stream."""
        self._events.put_nowait(event)

    def put_progress(self, progress: TokenProgress) -> None:
        """Append progress if it is at least one percent further than the last that was appended."""
        percent = 100 * progress.tokens_done // progress.tokens_total
        if percent > self._percent:
            self._percent = percent
            self.put(progress)

    async def get(self) -> Event:
        """Wait for the next event and return it, or raise the exception that ends the stream."""
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event
