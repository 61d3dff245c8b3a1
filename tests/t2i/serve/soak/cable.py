"""A cable between a client and a server, which can be cut."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: the peer gets a reset, and nothing of what was still to be sent."""


class Cable:
    """Carries bytes between whoever connects to ``address`` and a server, until it is cut; ``run`` it on a thread."""

    def __init__(self, server: str) -> None:
        self._host, _, self._port = server.rpartition(":")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready, self._unplugged = threading.Event(), asyncio.Event()
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"

    def run(self) -> None:
        """Carry bytes until :meth:`unplug`."""
        asyncio.run(self._run())

    def cut(self) -> None:
        """Reset all connections; new ones are carried again."""
        self._ready.wait()
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    def unplug(self) -> None:
        """Cut, and carry no more."""
        self.cut()
        self._loop.call_soon_threadsafe(self._unplugged.set)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._carry, sock=self._listening)
        self._ready.set()
        await self._unplugged.wait()
        server.close()

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            writer.transport.abort()
        self._writers.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._host, int(self._port))
        self._writers |= {writer, to_server}
        await asyncio.gather(_copy(reader, to_server), _copy(from_server, writer))
        self._writers -= {writer, to_server}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def cable_to(server: str) -> Iterator[Cable]:
    """Yield a cable to a server's ``host:port``."""
    cable = Cable(server)
    thread = threading.Thread(target=cable.run)
    thread.start()
    try:
        yield cable
    finally:
        cable.unplug()
        thread.join()
