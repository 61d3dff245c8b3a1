"""Continuous batching inside an asyncio server: many requests share one engine, which steps on a thread of its own.

    event loop                                           engine thread (the only one that calls the engine)

    stream(a)   ---- add(a) ---------------------------> queued behind the step that is running
                                                         step(): image tokens for every running candidate
    _deliver   <---- StepResult ------------------------ and, if there is work left, the next step is queued
       |  inbox of a   inbox of b
       v
    stream(a)   yields its events; when it ends, however:
                ---- cancel(a) ------------------------> a leaves before any step that is not yet queued

A thread pool of one thread runs what is submitted in order. Requests therefore join and leave between two steps, and
the engine needs no lock; nor does it wait for the event loop. The inboxes belong to the event loop alone, so they need
none either.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

from t2i.engine import Engine, FinishedCandidate, PartialCandidate, Request, StepResult, TokenProgress
from t2i.logs import get_logger
from t2i.serve.messages import SampledImages, SampleProgress
from t2i.serve.monitoring.stage import StageMonitor
from t2i.serve.replicas.backlog import Backlog

Event = SampledImages | SampleProgress

WAITING_S = 1.0
"""Seconds after which a request of which there is nothing new is told where it stands, if there are few requests."""

PROGRESS_S = 0.1
"""Seconds between two progresses of a replica, whoever they are for: each costs a millisecond here and in a gateway."""

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
        self._loop = asyncio.get_running_loop()
        self._is_stepping, self._has_failed = False, False
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
        if self._has_failed:
            raise EngineStoppedError("the engine stopped: see the log of its replica.")

    def check_queue(self, request: Request, ranking_s: float) -> None:
        """Raise QueueFullError if others leave a request too little time that is ranked for so long afterwards."""
        self._backlog.check(request, time.time(), ranking_s)

    async def stream(self, request: Request) -> AsyncGenerator[Event]:
        """Run a request; yield its image tokens as they are completed, and its progress.

        Progress comes at every further percent, and every second while there is nothing else, but the less often the
        more requests there are. The last event is the progress with all tokens done. Whichever way the iteration ends,
        the request then leaves the engine, after the step that is running at that moment, if any.

        Raises:
            RequestError: the engine refuses the request.
            TimeoutError: the deadline passed; of a request that came too late nothing was computed.
            EngineStoppedError: the engine failed.
        """
        self.check()
        self._backlog.add(request)
        inbox = self._inboxes[request.id] = _Inbox(request.candidates * self._tokens(request))
        try:
            await self._loop.run_in_executor(self._thread, self._add, request)
            while True:
                event = await inbox.get(max(WAITING_S, PROGRESS_S * len(self._inboxes)))
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

    def _add(self, request: Request) -> None:
        """Add a request to the engine, on its thread, and let that step."""
        self._engine.add(request)
        if not self._is_stepping:
            self._is_stepping = True
            self._thread.submit(self._step)

    def _step(self) -> None:
        """Step on the engine's thread, and queue the next step behind the requests that come and go meanwhile."""
        begin = time.perf_counter()
        try:
            result = self._engine.step()
        except Exception:
            logger.exception("the engine failed")
            self._loop.call_soon_threadsafe(self._fail)
            return
        self._loop.call_soon_threadsafe(self._deliver, result, time.perf_counter() - begin)
        self._note_slots()
        self._is_stepping = self._engine.has_work
        if self._is_stepping:
            self._thread.submit(self._step)

    def _leave(self, request_id: str) -> None:
        """Take a request out of the engine, on its thread, if it is still there; log what was spent on it."""
        if spent := self._engine.cancel(request_id):
            _log_unfinished(request_id, spent)
            self._note_slots()

    def _fail(self) -> None:
        """End the streams of all requests."""
        self._has_failed = True
        for inbox in self._inboxes.values():
            inbox.put(EngineStoppedError("the engine stopped: see the log of its replica."))

    def _note_step(self, result: StepResult, seconds: float) -> None:
        """Count a step that made image tokens, and its time."""
        if result.progress:
            self.steps += 1
            self._monitor.computed(seconds)
            self._backlog.note_steps(seconds, tokens=result.tokens_per_candidate)

    def _note_slots(self) -> None:
        self._monitor.slots(self._engine.slots_used, self._engine.slots)

    def _deliver(self, result: StepResult, seconds: float) -> None:
        """Put what a step of so many seconds gave into the inboxes of the requests that are still being streamed."""
        self._note_step(result, seconds)
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
                inbox.put_progress(progress, PROGRESS_S * len(self._inboxes))

    def _put(self, request_id: str, event: SampledImages | Exception) -> None:
        if inbox := self._inboxes.get(request_id):
            inbox.put(event)


def _log_unfinished(request_id: str, spent: int) -> None:
    asked = {"request_id": request_id.rpartition(".")[0]}  # without what tells the attempts of a request apart
    logger.info(
        "request %s left the engine unfinished, %d image tokens were spent on it", request_id, spent, extra=asked
    )


class _Inbox:
    """What is new of one request, from the engine's loop to whoever iterates over its stream."""

    def __init__(self, tokens: int) -> None:
        self.progress = self._newest = TokenProgress(0, tokens)
        self.steps = 0  # of which there was progress
        self.since = time.perf_counter()
        self._events: asyncio.Queue[SampledImages | TokenProgress | Exception] = asyncio.Queue()
        self._percent, self._told = -1, -math.inf

    def put(self, event: SampledImages | Exception) -> None:
        """Append image tokens, or the exception that ends the stream."""
        self._events.put_nowait(event)

    def put_progress(self, progress: TokenProgress, apart_s: float) -> None:
        """Count a step, and append its progress if it is a percent and ``apart_s`` further than the last appended."""
        self.steps, self._newest = self.steps + 1, progress
        percent, now = 100 * progress.tokens_done // progress.tokens_total, time.monotonic()
        if percent == 100 or (percent > self._percent and now >= self._told + apart_s):
            self._percent, self._told = percent, now
            self._events.put_nowait(progress)

    async def get(self, wait_s: float) -> SampledImages | None:
        """Return the next image tokens; None if :attr:`progress` is to be told: it is due, or ``wait_s`` have passed.

        Raises:
            Exception: what ends the stream.
        """
        try:
            async with asyncio.timeout(wait_s):
                event = await self._events.get()
        except TimeoutError:
            self.progress = self._newest
            return None
        if isinstance(event, Exception):
            raise event
        if isinstance(event, TokenProgress):
            self.progress = event
            return None
        return event
