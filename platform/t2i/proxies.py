"""Keep connections within this machine away from proxies, and tell which proxy others take."""

from __future__ import annotations

import ipaddress
import os
from urllib.request import proxy_bypass

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The variables that gRPC takes a proxy from, the first that is set."""


def bypass_proxies_for_loopback() -> None:
    """Add this machine's own names to ``no_proxy``, for all libraries and for the processes that this one starts."""
    known = [name for name in os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).split(",") if name]
    os.environ["no_proxy"] = ",".join([*known, *(name for name in LOOPBACK if name not in known)])


def is_loopback(host: str) -> bool:
    """Return whether a host name or address means this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def proxy_variable(host: str) -> str | None:
    """Return the variable whose proxy gRPC takes to ``host``; None if the way is direct."""
    if is_loopback(host) or proxy_bypass(host):
        return None
    return next((name for name in PROXIES if os.environ.get(name)), None)
