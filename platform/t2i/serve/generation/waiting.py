"""An answer in parts, and how long its first part keeps one waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

ItemT = TypeVar("ItemT")


async def noting_waits(items: AsyncIterable[ItemT], every_s: float) -> AsyncGenerator[ItemT | None]:
    """Yield the items, and None once for every ``every_s`` seconds for which the first one is waited for."""
    rest = aiter(items)
    first = asyncio.ensure_future(anext(rest))
    first.add_done_callback(lambda done: done.cancelled() or done.exception())  # asked for even if nobody listens then
    try:
        while not (await asyncio.wait([first], timeout=every_s))[0]:
            yield None
    finally:
        first.cancel()  # if whoever listens has gone; it does nothing to what is done
    try:
        yield first.result()
    except StopAsyncIteration:
        return
    async for item in rest:
        yield item
