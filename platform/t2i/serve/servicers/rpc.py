"""The calls of deployments that one RPC makes: bounded in time, cancelled with it, retried when a replica is lost."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
from grpc_status import rpc_status
from ray.exceptions import RayActorError

from t2i.engine import FinishedCandidate, TokenProgress
from t2i.logs import get_logger
from t2i.serve.replicas.messages import CaptionRequest, SampleHeader
from t2i.serve.servicers.errors import status_of

ATTEMPTS = 3
"""How often a call is made, the first time included, before the client is told that a replica is lost."""

TOKENS_SPENT = "t2i-tokens-spent"
"""Key in the trailing metadata of an error: the image tokens that were made for the request nevertheless."""

logger = get_logger("serve.gateway")


class Rpc:
    """Calls deployments on behalf of one RPC and counts the image tokens spent on it.

    Its ``deadline`` (Unix time) is the client's, or ``time_limit_s`` from now if that is earlier.
    """

    def __init__(self, context: grpc.aio.ServicerContext, time_limit_s: float) -> None:
        remaining = context.time_remaining()
        self.deadline = time.time() + min(time_limit_s, math.inf if remaining is None else remaining)
        self.tokens_spent = 0
        self._context = context

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Abort the RPC with a status that explains why, if the block raises or is not done by the deadline."""
        try:
            async with asyncio.timeout(self.deadline - time.time()):
                yield
        except Exception as error:
            status = rpc_status.to_status(status_of(error))
            spent = (TOKENS_SPENT, str(self.tokens_spent))
            await self._context.abort(status.code, status.details, (*status.trailing_metadata, spent))

    async def call(self, method: Any, *arguments: object) -> Any:
        """Call a deployment's method and return its answer; retried if the replica is lost.

        Raises:
            RayActorError: a replica was lost at every attempt.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._start(method, arguments)
            except RayActorError as error:
                _raise_if_last(error, attempt)

    async def stream(self, method: Any, *arguments: object) -> AsyncGenerator[Any]:
        """Yield what a deployment's generator method yields; retried from its start if the replica is lost.

        Raises:
            RayActorError: a replica was lost at every attempt.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async for item in self._start(method.options(stream=True), arguments):
                    yield item
                return
            except RayActorError as error:
                _raise_if_last(error, attempt)

    async def sample(
        self, prior: Any, wanted: CaptionRequest
    ) -> AsyncGenerator[SampleHeader | TokenProgress | FinishedCandidate]:
        """Yield the events of the prior's ``sample``: none twice and no progress falling, even if a replica is lost."""
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
        passed_on: set[int] = set()
        async with aclosing(self.stream(prior.sample, wanted)) as events:
            async for event in events:
                if isinstance(event, SampleHeader):
                    is_new, has_header, current = not has_header, True, 0
                elif isinstance(event, TokenProgress):
                    self.tokens_spent += event.tokens_done - current
                    current, is_new = event.tokens_done, event.tokens_done > furthest
                    furthest = max(furthest, current)
                else:
                    is_new = event.candidate not in passed_on
                    passed_on.add(event.candidate)
                if is_new:
                    yield event

    def _start(self, method: Any, arguments: tuple[object, ...]) -> Any:
        """Start a call that is cancelled when the RPC ends; return its response to await or iterate over."""
        # Without the callback a replica would go on for a client that has hung up. It is called at every end of the
        # RPC, the regular one too: a context does not tell reliably that it was cancelled (grpc/grpc#36193), and to
        # cancel what has ended does nothing.
        response = method.remote(*arguments)
        self._context.add_done_callback(lambda *_: response.cancel())
        return response


def _raise_if_last(error: RayActorError, attempt: int) -> None:
    """Raise the error after the last attempt, else log that there will be another."""
    if attempt == ATTEMPTS:
        raise error
    logger.warning("a replica was lost (attempt %d of %d), asking again", attempt, ATTEMPTS)
