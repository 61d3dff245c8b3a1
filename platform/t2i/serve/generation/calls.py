"""The calls of deployments that one request makes: bounded in time, cancelled with it, repeated by another replica."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any
from weakref import WeakSet

from ray.exceptions import RayActorError, RayError, RayTaskError

from t2i.logs import get_logger
from t2i.serve.generation.stages import StageHandles
from t2i.serve.generation.waiting import noting_waits
from t2i.serve.messages import (
    CaptionRequest,
    QueueFullError,
    ReplicaStarting,
    SampledImages,
    SampleHeader,
    SampleProgress,
    SampleRefused,
)
from t2i.serve.monitoring.origin import Origin
from t2i.serve.monitoring.request import RequestMonitor
from t2i.serve.monitoring.tracing import current_headers, trace_headers

ATTEMPTS = 3
"""How often a call is made, the first time included, before the client is told that a replica is lost."""

ANSWER_S = 1.0
"""Seconds in which a replica that is there has answered: the prior's does so before it samples anything."""

logger = get_logger("serve.gateway")


class Calls:
    """Calls deployments on behalf of one request until its ``deadline`` (Unix time), and counts the tokens spent on it.

    ``id`` names the request in the log, ``client`` whoever asked, ``headers`` are those that it came with. ``reserve``,
    if there is one, is called with the number of image tokens that are to be made, and raises if the client may not
    have them.
    """

    def __init__(
        self, deadline: float, request_id: str = "", client: str = "", headers: Mapping[str, Any] | None = None
    ) -> None:
        self.deadline = deadline
        self.id = request_id or uuid.uuid4().hex[:12]
        self.client = client
        self.tokens_spent = 0
        self.text_tokens = 0
        self.reserve: Callable[[int], Awaitable[None]] | None = None
        self.monitor = RequestMonitor(self.id, deadline, trace_headers(headers or {}))
        # Weak, so that a response does not keep images alive that nobody else wants any more.
        self._responses: WeakSet[Any] = WeakSet()

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Raise TimeoutError if the block is not done by the deadline; cancel what it has called when it ends."""
        try:
            with self.monitor.watched():
                async with asyncio.timeout(self.deadline - time.time()):
                    yield
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Cancel all calls that have not ended."""
        for response in list(self._responses):
            response.cancel()

    def start(self, method: Any, *arguments: object) -> Any:
        """Call a deployment's method and return its response, to await or iterate over, or to hand to another call."""
        response = method.remote(*arguments, origin=Origin(self.id, current_headers()))
        self._responses.add(response)
        return response

    async def call(self, method: Any, *arguments: object) -> Any:
        """Call a deployment's method and return its answer; retried if the replica is lost.

        Raises:
            RayActorError: a replica was lost at every attempt.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self.start(method, *arguments)
            except RayError as error:
                self.raise_if_last(error, attempt)

    async def stream(self, method: Any, *arguments: object) -> AsyncGenerator[Any]:
        """Yield what a deployment's generator method yields; retried from its start if the replica is lost.

        In between None, once for every :data:`ANSWER_S` seconds in which no replica has answered.

        Raises:
            RayActorError: a replica was lost at every attempt.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                items = noting_waits(self.start(method.options(stream=True), *arguments), ANSWER_S)
                async with aclosing(items):
                    async for item in items:
                        yield item
                return
            except RayError as error:
                self.raise_if_last(error, attempt)

    async def sample(
        self, stages: StageHandles, wanted: CaptionRequest
    ) -> AsyncGenerator[ReplicaStarting | SampleHeader | SampleProgress | SampledImages]:
        """Yield the events of the prior's ``sample``: none twice and no progress falling, even if a replica is lost.

        In between :class:`ReplicaStarting`, every second for which a replica is waited for.

        Raises:
            QueueFullError: other requests leave this one too little time.
        """
        # A retry begins from the start and makes the same candidates (the seed contract). What the client knows already
        # is left out. T1 is progress with one token, C0 candidate 0:
        #
        #     first replica    header T1 T2 C0 T3  lost
        #     second replica                            header T1 T2 C0 T3 T4 C1
        #     passed on        header T1 T2 C0 T3                          T4 C1
        #     tokens_spent            1  2     3               4  5     6  7       all that were computed
        #
        # The other replica may finish candidates in another order and report progress at other counts, so events are
        # compared with what was passed on, not counted.
        has_header, furthest, current = False, -1, 0
        passed_on = _PassedOn()
        self.monitor.waiting()
        stages.refusals.check(wanted)
        async with aclosing(self.stream(stages.prior.sample, wanted)) as events:
            async for event in events:
                if event is None:
                    event, is_new = ReplicaStarting(), True
                elif isinstance(event, SampleRefused):
                    stages.refusals.note(wanted, event.late_s)
                    raise QueueFullError(event.late_s)
                elif isinstance(event, SampleHeader):
                    is_new, has_header, current = not has_header, True, 0
                    if is_new:
                        await self._begin(event, wanted)
                elif isinstance(event, SampleProgress):
                    self._note(event, current, furthest)
                    current, is_new = event.tokens_done, event.tokens_done > furthest or event.position > 0
                    furthest = max(furthest, current)
                else:
                    event = passed_on.new(event)
                    is_new = bool(event.finished or event.partial)
                if is_new:
                    yield event

    async def _begin(self, header: SampleHeader, wanted: CaptionRequest) -> None:
        """Note what is read for a request, and take what is to be made from its client's quota."""
        self.text_tokens = header.text_tokens
        self.monitor.read(header.text_tokens)
        if self.reserve:
            await self.reserve(wanted.candidates * (math.prod(header.grid) - len(wanted.prefix)))

    def _note(self, progress: SampleProgress, current: int, furthest: int) -> None:
        """Count the tokens since ``current``, of which those up to ``furthest`` had been made before."""
        made = progress.tokens_done - current
        self.tokens_spent += made
        self.monitor.made(made, max(0, progress.tokens_done - max(0, furthest)))
        if not progress.position:
            self.monitor.running()

    def raise_if_last(self, error: RayError, attempt: int) -> None:
        """Raise the error if it is no lost replica, or the last attempt; else log that there will be another."""
        if attempt == ATTEMPTS or not is_lost_replica(error):
            raise error
        self.monitor.repeated()
        logger.warning("request %s: a replica was lost (attempt %d of %d), asking again", self.id, attempt, ATTEMPTS)


def is_lost_replica(error: Exception) -> bool:
    """Return whether a replica was lost: the one that was called, or the one whose answer was to be its argument."""
    return isinstance(error.cause if isinstance(error, RayTaskError) else error, RayActorError)


class _PassedOn:
    """Which candidates, and how many tokens of unfinished ones, the client knows already."""

    def __init__(self) -> None:
        self._finished: set[int] = set()
        self._tokens: dict[int, int] = {}

    def new(self, images: SampledImages) -> SampledImages:
        """Return the part of ``images`` that is new, and note it."""
        finished = tuple(each for each in images.finished if each.candidate not in self._finished)
        self._finished.update(each.candidate for each in finished)
        longer = [each for each in images.partial if len(each.image_tokens) > self._tokens.get(each.candidate, 0)]
        self._tokens.update({each.candidate: len(each.image_tokens) for each in longer})
        return SampledImages(finished, tuple(longer))
