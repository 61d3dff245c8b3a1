"""The deployment ``quotas``: one replica counts for all gateways, so that quotas are exact however many there are."""

from __future__ import annotations

import time
from collections import defaultdict
from functools import partial

from t2i.serve.access.quota import Claim, Quota
from t2i.serve.monitoring.origin import for_request


class QuotasReplica:
    """The quotas of all keys, in memory.

    While the replica is lost, requests of keys with a quota wait for the next one, which Serve starts, until their
    deadlines; others notice nothing. The next one begins with full buckets and knows of no request that runs: for once
    a key may have a minute's tokens, and its number of requests, a second time.
    """

    def __init__(self) -> None:
        self._quotas: dict[str, Quota] = defaultdict(partial(Quota, time.time))

    @for_request("quotas")
    async def open(self, claim: Claim) -> None:
        """Take a place for a request: see :meth:`Quota.open`."""
        self._quotas[claim.key].open(claim)

    @for_request("quotas")
    async def reserve(self, claim: Claim, tokens: int) -> None:
        """Take the tokens that a request is about to make: see :meth:`Quota.reserve`."""
        self._quotas[claim.key].reserve(claim, tokens)

    async def close(self, claim: Claim, spent: int) -> None:
        """Note that a request has ended: see :meth:`Quota.close`."""
        self._quotas[claim.key].close(claim, spent)
