"""An HTTP proxy in front of a real S3 server that imitates network faults and busy stores."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
STALL_SECONDS = 60.0
"""How long a stalled request is left open: longer than any client may wait for it."""
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class FaultyStore:
    """Forwards requests to ``origin``; each of the next requests takes the first word of ``faults`` and fails by it.

    ``busy``: 503 SlowDown. ``reset``: the connection is reset. ``cut``: half of the answer's body is sent, then the
    connection is closed. ``lost``: forwarded, but reset instead of answered. ``stall``: no answer. ``denied``: 403.
    ``pass``: no fault.
    """

    def __init__(self, origin: str) -> None:
        self.origin = urlsplit(origin).netloc
        self.faults: list[str] = []
        self.only = ""
        self.requests: list[str] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._open(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fail(self, *faults: str, only: str = "") -> None:
        """Set the faults of the next requests whose "METHOD path" contains ``only``."""
        with self._lock:
            self.faults, self.only, self.requests = list(faults), only, []

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nothing listens inside the block: connections are refused."""
        self.close()
        try:
            yield
        finally:
            self._open(self.port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()

    def next_fault(self, request: str) -> str:
        with self._lock:
            self.requests.append(request)
            return self.faults.pop(0) if self.faults and self.only in request else "pass"

    def _open(self, port: int) -> None:
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.store = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    store: FaultyStore

    def __init__(self, *arguments: Any) -> None:
        self._connections: list[socket.socket] = []
        super().__init__(*arguments)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.append(connection)
        return connection, address

    def hang_up(self) -> None:
        """Close the connections that clients keep open for their next requests."""
        for connection in self._connections:
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        body = self._body()
        fault = self.server.store.next_fault(f"{self.command} {self.path}")
        if fault == "busy":
            self._answer(503, [], SLOW_DOWN)
        elif fault == "denied":
            self._answer(403, [], DENIED)
        elif fault == "reset":
            self._reset()
        elif fault == "stall":
            self.server.store.closing.wait(STALL_SECONDS)
        else:
            status, headers, answer = self._forward(body)
            if fault == "lost":
                self._reset()
            else:
                self._answer(status, headers, answer, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815  the names http.server looks for

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            pass  # http.server has answered already
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.store.origin)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "expect")}
        connection.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
        reply = connection.getresponse()
        answer = reply.status, reply.getheaders(), reply.read()
        connection.close()
        return answer

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value  # of a HEAD's answer, which has no body
            elif name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut or self.close_connection

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""
