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
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from t2i.engine import Engine, FinishedCandidate, PartialCandidate, Request, StepResult, TokenProgress
from t2i.logs import get_logger
from t2i.serve.messages import SampledImages, SampleProgress
from t2i.serve.monitoring.stage import StageMonitor
from t2i.serve.replicas.backlog import Backlog

Event = SampledImages | SampleProgress
ResultT = TypeVar("ResultT")

WAITING_S = 1.0
"""Seconds after which a request of which there is nothing new is told where it stands."""

PROGRESS_S = 0.1
"""Least seconds between two progresses: each costs a replica and a gateway a millisecond, as much as a small step."""

logger = get_logger("serve.engine")


class EngineStoppedError(RuntimeError):
    """The engine failed and cannot continue; its replica has to be replaced."""


class EngineLoop:
    """Steps an engine while it has work; make it inside a running event loop.

    ``seconds_per_step`` is the first estimate of it, by which deadlines are judged; 0 if nothing is known.
    """

    def __init__(self, engine: Engine, seconds_per_step: float = 0.0) -> None:
        self.steps = 0  # that made image tokens
        self._engine, self._monitor = engine, StageMonitor("prior")
        self._backlog = Backlog(engine.slots, engine.layout.image_length, seconds_per_step)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._inboxes: dict[str, _Inbox] = {}
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run())
        self._note_slots()

    @property
    def requests(self) -> int:
        """How many requests are being streamed."""
        return len(self._inboxes)

    @property
    def steps_per_slot(self) -> float:
        """How many steps each slot has still to make for all requests."""
        return self._backlog.slot_steps / self._engine.slots

    def check(self) -> None:
        """Raise EngineStoppedError if the engine has failed."""
        if self._task.done():
            raise EngineStoppedError("the engine stopped: see the log of its replica.")

    async def stream(self, request: Request) -> AsyncGenerator[Event]:
        """Run a request; yield its image tokens as they are completed, and its progress.

        Progress comes at every further percent, but ten times a second at most, and every second while there is nothing
        else. The last event is the progress with all tokens done. Whichever way the iteration ends, the request then
        leaves the engine, after the step that is running at that moment, if any.

        Raises:
            RequestError: the engine refuses the request.
            QueueFullError: other requests leave it too little time before its deadline.
            TimeoutError: the deadline passed; of a request that came too late nothing was computed.
            EngineStoppedError: the engine failed.
        """
        self.check()
        self._backlog.add(request, time.time())
        inbox = self._inboxes[request.id] = _Inbox(request.candidates * self._tokens(request))
        try:
            await self._on_thread(self._engine.add, request)
            self._wake.set()
            while True:
                event = await inbox.get(WAITING_S)
                if isinstance(event, SampledImages):
                    yield event
                    continue
                yield self._progress(request.id, inbox.progress)
                if inbox.progress.tokens_done == inbox.progress.tokens_total:
                    return
        finally:
            # Also when the caller has gone: the generator is then closed at its yield, or cancelled while it waits.
            # Submitted without awaiting the result, so that a cancelled task ends at once. The order of the thread's
            # queue is enough: this comes after the add and before every step submitted from now on.
            del self._inboxes[request.id]
            self._backlog.remove(request.id)
            self._thread.submit(self._leave, request.id)

    def _tokens(self, request: Request) -> int:
        return self._engine.layout.image_length - len(request.prefix)

    def _progress(self, request_id: str, progress: TokenProgress) -> SampleProgress:
        position, seconds_left = self._backlog.position(request_id), self._backlog.seconds_left(request_id)
        steps = self._inboxes[request_id].steps
        return SampleProgress(progress.tokens_done, progress.tokens_total, position, seconds_left, steps)

    def _leave(self, request_id: str) -> None:
        """Take a request out of the engine, if it is still there, and log what was spent on it."""
        if spent := self._engine.cancel(request_id):
            _log_unfinished(request_id, spent)
            self._note_slots()

    async def _run(self) -> None:
        """Step while there is work, else sleep until a request is added; if a step fails, tell all requests and end."""
        try:
            while True:
                await self._wake.wait()
                # Cleared before has_work is asked: a request that is added after that sets it again.
                self._wake.clear()
                while self._engine.has_work:
                    begin = time.perf_counter()
                    result = await self._on_thread(self._engine.step)
                    self._note_step(result, time.perf_counter() - begin)
                    self._deliver(result)
                    self._note_slots()
        except Exception:
            logger.exception("the engine failed")
            raise
        finally:
            for inbox in self._inboxes.values():
                inbox.put(EngineStoppedError("the engine stopped: see the log of its replica."))

    def _note_step(self, result: StepResult, seconds: float) -> None:
        """Count a step, and let its time weigh a twentieth in the estimate, as prefills make single steps long."""
        if result.progress:
            self.steps += 1
            self._monitor.computed(seconds)
            known = self._backlog.seconds_per_step
            self._backlog.seconds_per_step = known + (seconds - known) / 20 if known else seconds

    def _note_slots(self) -> None:
        self._monitor.slots(self._engine.slots_used, self._engine.slots)

    def _deliver(self, result: StepResult) -> None:
        """Put what a step gave into the inboxes of the requests that are still being streamed."""
        # A request may have left while the step ran, so that its inbox is gone. Progress comes last: at 100 % its
        # stream ends, and the candidates that were finished in this step must be out by then.
        finished: dict[str, list[FinishedCandidate]] = defaultdict(list)
        partial: dict[str, list[PartialCandidate]] = defaultdict(list)
        for done in result.finished:
            finished[done.request_id].append(done)
        for row in result.partial:
            partial[row.request_id].append(row)
        for request_id in finished.keys() | partial.keys():
            images = SampledImages(tuple(finished[request_id]), tuple(partial[request_id]))
            self._put(request_id, images)
        for request_id, spent in result.expired.items():
            _log_unfinished(request_id, spent)
            self._put(request_id, TimeoutError("the deadline of the request passed."))
        for request_id, progress in result.progress.items():
            if inbox := self._inboxes.get(request_id):
                self._backlog.update(request_id, progress.tokens_total - progress.tokens_done)
                if not inbox.steps:
                    self._monitor.waited(time.perf_counter() - inbox.since)
                inbox.put_progress(progress)

    def _put(self, request_id: str, event: SampledImages | Exception) -> None:
        if inbox := self._inboxes.get(request_id):
            inbox.put(event)

    async def _on_thread(self, function: Callable[..., ResultT], *arguments: object) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def _log_unfinished(request_id: str, spent: int) -> None:
    asked = {"request_id": request_id.rpartition(".")[0]}  # without what tells the attempts of a request apart
    logger.info(
        "request %s left the engine unfinished, %d image tokens were spent on it", request_id, spent, extra=asked
    )


class _Inbox:
    """What is new of one request, from the engine's loop to whoever iterates over its stream."""

    def __init__(self, tokens: int) -> None:
        self.progress = TokenProgress(0, tokens)
        self.steps = 0  # of which there was progress
        self.since = time.perf_counter()
        self._events: asyncio.Queue[SampledImages | TokenProgress | Exception] = asyncio.Queue()
        self._percent, self._told = -1, 0.0

    def put(self, event: SampledImages | Exception) -> None:
        """Append image tokens, or the exception that ends the stream."""
        self._events.put_nowait(event)

    def put_progress(self, progress: TokenProgress) -> None:
        """Count a step, and append its progress if it is a percent and a moment further than the last appended."""
        self.steps += 1
        percent, now = 100 * progress.tokens_done // progress.tokens_total, time.monotonic()
        if percent == 100 or (percent > self._percent and now >= self._told + PROGRESS_S):
            self._percent, self._told = percent, now
            self._events.put_nowait(progress)

    async def get(self, wait_s: float) -> SampledImages | None:
        """Return the next image tokens; None if :attr:`progress` is new, or if ``wait_s`` seconds brought nothing.

        Raises:
            Exception: what ends the stream.
        """
        try:
            async with asyncio.timeout(wait_s):
                event = await self._events.get()
        except TimeoutError:
            return None
        if isinstance(event, Exception):
            raise event
        if isinstance(event, TokenProgress):
            self.progress = event
            return None
        return event
