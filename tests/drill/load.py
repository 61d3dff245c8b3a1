"""Clients who ask at a rate that no answer slows down, and compare every image with the one that they know."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import cycle
from typing import Any

from t2i.client import AsyncClient, Client
from tests.drill.timeline import Answer, Timeline

CLIENTS = 8
CAPTIONS = ("a red taco", "a blue cat", "a green house", "a smiling face")
REQUEST: dict[str, Any] = {"candidates": 2, "keep": 2, "seed": 7}
PATIENCE_S = 300.0
"""For how long a client waits for an answer."""


class Load:
    """Requests to the service at ``address``, ``rate`` a second, which may be changed while they are sent."""

    def __init__(self, address: str, timeline: Timeline) -> None:
        self.rate = 0.0
        self._address, self._timeline = address, timeline
        self._known: dict[str, list[bytes]] = {}

    def learn(self) -> float:
        """Note the images of each caption, to compare later ones with; return the seconds to one's images.

        The first answer is not timed: it may wait for a replica that starts.
        """
        with Client(self._address) as client:
            client.generate(CAPTIONS[0], timeout=PATIENCE_S, **REQUEST)
            begin = time.monotonic()
            for caption in CAPTIONS:
                answer = client.generate(caption, timeout=PATIENCE_S, **REQUEST)
                self._known[caption] = [image.data for image in answer.images]
        return (time.monotonic() - begin) / len(CAPTIONS)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send requests while the block runs; at its end all answers are awaited."""
        ending = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._send(ending)), name="load")
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    async def _send(self, ending: threading.Event) -> None:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as requests:
            clients = [await stack.enter_async_context(AsyncClient(self._address)) for _ in range(CLIENTS)]
            for caption, client in zip(cycle(CAPTIONS), cycle(clients), strict=False):
                while not self.rate and not ending.is_set():
                    await asyncio.sleep(0.1)
                if ending.is_set():
                    return
                requests.create_task(self._ask(client, caption))
                await asyncio.sleep(1 / self.rate)

    async def _ask(self, client: AsyncClient, caption: str) -> None:
        asked = self._timeline.now()
        try:
            answer = await client.generate(caption, timeout=PATIENCE_S, **REQUEST)
            fault = "" if [image.data for image in answer.images] == self._known[caption] else "other images"
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        self._timeline.answers.append(Answer(asked, self._timeline.now() - asked, fault))
