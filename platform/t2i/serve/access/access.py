"""Whether a request may begin: its key is known, and the key's quota has room."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from t2i.serve.access.keys import Key, KeyRing, UnauthenticatedError
from t2i.serve.access.quota import Claim
from t2i.serve.access.tls import check_certificates
from t2i.serve.config import ServeConfig
from t2i.serve.generation.calls import Calls
from t2i.serve.monitoring.declared import REQUESTS_REJECTED
from t2i.serve.monitoring.recorder import count


class Access:
    """The keys of a service, and the handle of the deployment ``quotas``; without keys everybody may ask.

    Both doors ask it: ``key_of`` with the header ``authorization``, then ``admitted`` around all that a request does.
    """

    def __init__(self, keys: KeyRing | None = None, quotas: Any = None) -> None:
        self._keys = keys
        self._quotas = quotas
        self._closing: set[asyncio.Task[None]] = set()

    def key_of(self, authorization: str | None) -> Key | None:
        """Return the key of a request; None if the service needs none.

        Raises:
            UnauthenticatedError: there is none, or it is not known.
        """
        try:
            return self._keys.find(authorization) if self._keys else None
        except UnauthenticatedError:
            count(REQUESTS_REJECTED, model="", reason="unauthenticated")
            raise

    @asynccontextmanager
    async def admitted(self, key: Key | None, calls: Calls) -> AsyncIterator[None]:
        """Hold a place in the key's quota during the block; ``calls`` takes the image tokens before the first is made.

        Raises:
            QuotaExceededError: there is no place.
        """
        if key is None or not key.is_limited:
            yield
            return
        claim = Claim(uuid.uuid4().hex, key.name, key.tokens_per_minute, key.concurrent, calls.deadline)
        calls.reserve = partial(calls.call, self._quotas.reserve, claim)
        try:
            await calls.call(self._quotas.open, claim)
            yield
        finally:
            # Not awaited: the request may be over because its time is. A task lives as long as somebody holds it.
            task = asyncio.create_task(self._close(claim, calls.tokens_spent))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, claim: Claim, spent: int) -> None:
        with suppress(RayError, RayServeException):  # a new replica does not know the claim
            await self._quotas.close.remote(claim, spent)


def check_access(config: ServeConfig) -> None:
    """Check the files of keys and certificates, before anything is started.

    Raises:
        UserError: one cannot be read, or is not valid.
    """
    if config.keys:
        KeyRing(config.keys)
    if config.tls.is_on:
        check_certificates(config.tls)
