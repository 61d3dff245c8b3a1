"""Whether a request may begin: its key is known, and the key's quota has room."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import unquote

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from t2i.serve.access.keys import ForbiddenError, Key, KeyRing, UnauthenticatedError
from t2i.serve.access.quota import Claim
from t2i.serve.access.tls import check_certificates
from t2i.serve.config import ServeConfig, is_own
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

    def check_admin(self, authorization: str | None, peer: str) -> None:
        """Check that a caller may change the service's models: a key must say so; without keys, whoever is at home may.

        A run is read from wherever its caller says, and loads the machine: so an open port is not enough.

        Raises:
            UnauthenticatedError: the service needs a key, and it is missing or not known.
            ForbiddenError: the caller may not.
        """
        key = self.key_of(authorization)
        if key is not None and not key.admin:
            raise ForbiddenError(f"key {key.name} may not change models: use one made by `t2i keys new --admin`.")
        if key is None and not _is_loopback(peer):
            raise ForbiddenError("models are changed from the service's own machine, or with a key: give it keys=.")

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


def _is_loopback(peer: str) -> bool:
    """Return whether a peer of gRPC, such as ``ipv4:10.0.0.1:4711`` or ``ipv6:%5B::1%5D:4711``, is this machine."""
    host = unquote(peer).partition(":")[2].rpartition(":")[0]
    return is_own(host.strip("[]").removeprefix("::ffff:"))  # IPv4 by a socket for both


def check_access(config: ServeConfig) -> None:
    """Check the files of keys and certificates, before anything is started.

    Raises:
        UserError: one cannot be read, or is not valid.
    """
    if config.keys:
        KeyRing(config.keys)
    if config.tls.is_on:
        check_certificates(config.tls)
