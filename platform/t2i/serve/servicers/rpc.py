"""One RPC: its deadline and id as the calls of deployments need them, and its errors as the client needs them."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
from grpc_status import rpc_status

from t2i.serve.access.access import Access
from t2i.serve.generation.calls import Calls
from t2i.serve.servicers.authentication import AUTHORIZATION
from t2i.serve.servicers.errors import status_of

REQUEST_ID = "x-request-id"
"""Key in a call's metadata and the answer's trailing metadata: the id of the request in every line of the log.

Not in the initial metadata: once these are sent, gRPC no longer repeats a call whose gateway is lost."""

TOKENS_SPENT = "t2i-tokens-spent"
"""Key in the trailing metadata of an error: the image tokens that were made for the request nevertheless."""

CHANGE_LIMIT_S = 3600.0
"""Longest time for a change of the models: large ones come from far away."""

HEAD_START_S = 0.05
"""Seconds by which the service ends a call before its deadline, so that the answer still reaches the client."""


@dataclass(frozen=True)
class Limits:
    """The most images that one request may have, the longest time that it may take in seconds, and who may ask."""

    max_images: int
    time_limit_s: float
    access: Access


@asynccontextmanager
async def answering(context: grpc.aio.ServicerContext[Any, Any], limits: Limits) -> AsyncIterator[Calls]:
    """Yield what calls deployments for an RPC; if the block raises or takes too long, the RPC ends with a status.

    The deadline is the client's, or ``limits.time_limit_s`` seconds from now if that is earlier. Whichever way the RPC
    ends, what it has called is cancelled.
    """
    remaining = context.time_remaining()
    limit = min(limits.time_limit_s, math.inf if remaining is None else max(0.0, remaining - HEAD_START_S))
    metadata = dict(context.invocation_metadata() or ())
    calls = Calls(time.time() + limit, str(metadata.get(REQUEST_ID, "")), client_of(context.peer()), metadata)
    # Without the callback a replica would go on for a client that has hung up. It is called at every end of the RPC,
    # the regular one too: a context does not tell reliably that it was cancelled (grpc/grpc#36193), and to cancel what
    # has ended does nothing.
    context.add_done_callback(lambda _: calls.cancel())
    context.set_trailing_metadata(((REQUEST_ID, calls.id),))
    try:
        key = limits.access.key_of(metadata.get(AUTHORIZATION))
        calls.client = key.name if key else calls.client
        async with calls.bounded(), limits.access.admitted(key, calls):
            yield calls
    except Exception as error:
        status = rpc_status.to_status(status_of(error, calls.id))
        told = ((REQUEST_ID, calls.id), (TOKENS_SPENT, str(calls.tokens_spent)))
        await context.abort(status.code, status.details, (*status.trailing_metadata, *told))


@asynccontextmanager
async def administering(context: grpc.aio.ServicerContext[Any, Any], limits: Limits) -> AsyncIterator[Calls]:
    """Be :func:`answering` for an RPC that changes the service, which takes as long as its client's deadline allows.

    Others than administrators are refused.
    """
    async with answering(context, replace(limits, time_limit_s=CHANGE_LIMIT_S)) as calls:
        authorization = dict(context.invocation_metadata() or ()).get(AUTHORIZATION)
        limits.access.check_admin(authorization, context.peer())
        yield calls


def client_of(peer: str) -> str:
    """Return who a peer such as ``ipv4:10.0.0.1:4711`` is: its address without the port of this connection."""
    return peer.rpartition(":")[0]
