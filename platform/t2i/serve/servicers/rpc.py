"""One RPC's way to the deployments: ended with it, bounded in time, gone again when a replica is lost."""

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
from t2i.serve.replicas.messages import SampleOrder, SampleStart
from t2i.serve.servicers.errors import status_of

ATTEMPTS = 3
TOKENS_SPENT = "t2i-tokens-spent"

logger = get_logger("serve.gateway")


class Rpc:
    """Calls deployments on behalf of one RPC and counts the image tokens spent on it."""

    def __init__(self, context: grpc.aio.ServicerContext, time_limit_s: float) -> None:
        remaining = context.time_remaining()
        self.deadline = time.time() + min(time_limit_s, math.inf if remaining is None else remaining)
        self.tokens_spent = 0
        self._context = context

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Ends the RPC with a status of its own when the block fails or takes too long."""
        try:
            async with asyncio.timeout(self.deadline - time.time()):
                yield
        except Exception as error:
            status = rpc_status.to_status(status_of(error))
            spent = (TOKENS_SPENT, str(self.tokens_spent))
            await self._context.abort(status.code, status.details, (*status.trailing_metadata, spent))

    async def ask(self, method: Any, *arguments: object) -> Any:
        """One answer of a deployment's method.

        Raises:
            RayActorError: the replica was lost three times.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._call(method, arguments)
            except RayActorError as error:
                _note_loss(error, attempt)

    async def stream(self, method: Any, *arguments: object) -> AsyncGenerator[Any]:
        """Everything a deployment's generator method yields; from the start again after a loss.

        Raises:
            RayActorError: the replica was lost three times.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async for item in self._call(method.options(stream=True), arguments):
                    yield item
                return
            except RayActorError as error:
                _note_loss(error, attempt)

    async def sample(
        self, prior: Any, order: SampleOrder
    ) -> AsyncGenerator[SampleStart | TokenProgress | FinishedCandidate]:
        """The prior's events, each once, progress never going backwards, however often a replica is lost.

        The seed contract makes the repeated work the same.
        """
        started, furthest, current = False, -1, 0
        seen: set[int] = set()
        async with aclosing(self.stream(prior.sample, order)) as events:
            async for event in events:
                if isinstance(event, SampleStart):
                    fresh, started, current = not started, True, 0
                elif isinstance(event, TokenProgress):
                    self.tokens_spent += event.tokens_done - current
                    current, fresh = event.tokens_done, event.tokens_done > furthest
                    furthest = max(furthest, current)
                else:
                    fresh = event.candidate not in seen
                    seen.add(event.candidate)
                if fresh:
                    yield event

    def _call(self, method: Any, arguments: tuple[object, ...]) -> Any:
        """Start a call that ends with the RPC.

        The callback is unconditional: a context does not tell reliably that it was cancelled
        (grpc/grpc#36193), and cancelling what has ended does nothing.
        """
        response = method.remote(*arguments)
        self._context.add_done_callback(lambda *_: response.cancel())
        return response


def _note_loss(error: RayActorError, attempt: int) -> None:
    if attempt == ATTEMPTS:
        raise error
    logger.warning("a replica was lost (attempt %d of %d), asking again", attempt, ATTEMPTS)
