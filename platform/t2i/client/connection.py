"""Where a service is, and how a client shows itself to it: what both clients need to open a channel."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, TypedDict

import grpc

from models.errors import UserError
from t2i.client.errors import ServiceError, ServiceUnreachableError, service_error
from t2i.proxies import proxy_variable

KEY_VARIABLE = "T2I_KEY"
SYSTEM = "system"
"""In the place of a file of authorities: those that gRPC comes with."""

RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "t2i.v1.Generation"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
"""gRPC's own retries, for services that are starting or restarting; they end where an answer has begun."""


class ConnectionOptions(TypedDict, total=False):
    """How a client shows itself, and whom it trusts.

    Attributes:
        key: the key to send with each call; by default that of the variable T2I_KEY, if it is set.
        ca: PEM file of the authority whose certificates are trusted, or "system"; by default the connection has no TLS.
        certificate: PEM file of the client's own certificate, where the service asks for one.
        certificate_key: PEM file of its private key.
    """

    key: str | None
    ca: str | Path | None
    certificate: str | Path | None
    certificate_key: str | Path | None


class Connection:
    """A checked address with its options; ``has_answered`` is kept by :meth:`error` and whoever gets an answer.

    Raises:
        UserError: the address has another form, a file cannot be read, or the options do not fit together.
    """

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        ca: str | Path | None = None,
        certificate: str | Path | None = None,
        certificate_key: str | Path | None = None,
    ) -> None:
        self.address = address
        self.has_answered = False
        self._proxy = proxy_variable(host_of(address))
        self._credentials = _credentials(ca, certificate, certificate_key)
        key = os.environ.get(KEY_VARIABLE) if key is None else key
        self.metadata = (("authorization", f"Bearer {_checked(key)}"),) if key else ()

    def open(self, module: Any) -> Any:
        """Return a channel of ``module``, which is grpc or grpc.aio."""
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.service_config", json.dumps(RETRIES)),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            ("grpc.enable_http_proxy", int(self._proxy is not None)),
        ]
        if self._credentials is None:
            return module.insecure_channel(self.address, options)
        return module.secure_channel(self.address, self._credentials, options)

    def error(self, error: grpc.RpcError) -> ServiceError:
        """Return a gRPC error of this connection as an exception that explains it."""
        explained = service_error(error, self.address, self._proxy)
        self.has_answered |= not isinstance(explained, ServiceUnreachableError)
        return explained


def host_of(address: str) -> str:
    """Return the host of ``host:port``, where an IPv6 host stands in brackets.

    Raises:
        UserError: the address has another form.
    """
    form = re.fullmatch(r"(\[(?P<ipv6>[^\]]+)\]|(?P<name>[^:/\[\]]+)):\d+", address)
    if form is None:
        raise UserError(f"the server's address is {address!r}: use HOST:PORT, as 127.0.0.1:50051 or [::1]:50051.")
    return form["ipv6"] or form["name"]


def _checked(key: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise UserError("the key has spaces, or letters that no key has: copy it as `t2i keys new` printed it.")
    return key


def _credentials(
    ca: str | Path | None, certificate: str | Path | None, certificate_key: str | Path | None
) -> grpc.ChannelCredentials | None:
    if (certificate is None) != (certificate_key is None):
        raise UserError("a client's certificate and its private key belong together: name both files, or neither.")
    if ca is None and certificate is not None:
        raise UserError("a client's certificate needs TLS: name the service's ca as well, a file or 'system'.")
    if ca is None:
        return None
    authorities = None if ca == SYSTEM else _read(ca)
    own = [None if path is None else _read(path) for path in (certificate_key, certificate)]
    return grpc.ssl_channel_credentials(authorities, *own)


def _read(path: str | Path) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): name another PEM file.") from error
    if b"-----BEGIN " not in data:
        raise UserError(f"{path} is no PEM file: name one that has -----BEGIN in it.")
    return data
