"""What a request over HTTP may ask for."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from t2i.serve.config import ServeConfig
from t2i.serve.generation.calls import Calls

REQUEST_ID = "x-request-id"
"""Header of requests and answers: the id of the request in every line of the log."""


@dataclass(frozen=True)
class HttpLimits:
    """Bounds of one request, and the key of the addresses in answers.

    Attributes:
        max_candidates: most images that one request may have sampled.
        time_limit_s: longest time that it may take, in seconds.
        max_body_mb: largest body, in MiB.
        url_key: signs the addresses of images; empty: a random key.
    """

    max_candidates: int
    time_limit_s: float
    max_body_mb: int
    url_key: str = ""

    @classmethod
    def of(cls, config: ServeConfig) -> HttpLimits:
        """Return the limits that a service's configuration sets."""
        return cls(
            config.max_candidates,
            config.time_limit_s,
            config.max_message_mb,
            config.http_url_key,
        )

    def calls(self, connection: HTTPConnection) -> Calls:
        """Return what calls deployments for a request until its time is over."""
        # The port is another one for each connection; who asks is told by the address alone.
        client = f"http:{connection.client.host}" if connection.client else ""
        return Calls(time.time() + self.time_limit_s, request_id_of(connection), client, connection.headers)


def request_id_of(connection: HTTPConnection) -> str:
    """Return the id that a request brings; empty if it brings none, or one that does not belong into a log."""
    given = connection.headers.get(REQUEST_ID, "")
    return given if re.fullmatch(r"[\w.:/+=-]{1,128}", given, flags=re.ASCII) else ""
