"""``t2i serve``: a service on this machine or cluster until it is interrupted."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from errno import EACCES, EADDRINUSE
from pathlib import Path

from models.errors import UserError
from models.files import write_whole
from models.settings import setting
from t2i.cluster import RayConfig, start_ray
from t2i.config import load_config
from t2i.logs import set_log_format
from t2i.serve.access.access import check_access
from t2i.serve.config import ServeConfig
from t2i.serve.monitoring.tracing import check_tracing
from t2i.serve.runs import check_run

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class ServeCommand(ServeConfig):
    """Settings of ``t2i serve``: the service's, and the Ray cluster's on which it runs."""

    ray: RayConfig = setting(RayConfig, "the Ray cluster")


def serve(options: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        UserError: a setting, a file or the port cannot be used.
    """
    named = [f"{name}={value}" for name in ("run", "port") if (value := getattr(options, name)) is not None]
    config = load_config(ServeCommand, "serve", [*named, *options.settings])
    for run in config.runs.values():
        check_run(run)
    check_access(config)
    check_tracing()
    set_log_format(config.log_format)
    for name in ("port", "http_port"):
        _check_port(config, name)
    from t2i.serve.launch import launch_service

    _end_at_signals()
    start_ray(config.ray)
    _end_at_signals()  # Ray has put its own handlers there
    with launch_service(config) as address:
        if config.address_file:
            write_address(Path(config.address_file), address)
        print(f"serving {config.run} on {address}{_and_http(config)}", flush=True)
        _wait_for_signal()


def write_address(file: Path, address: str) -> None:
    """Write the service's address into a file, for scripts.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_whole(file, address.encode())
    except OSError as error:
        raise UserError(f"cannot write {file} ({error.strerror}): choose another address_file=.") from error


def _and_http(config: ServeConfig) -> str:
    scheme = "https" if config.tls.is_on else "http"
    return f", page and API on {scheme}://{config.address(config.http_port)}" if config.http_port else ""


def _check_port(config: ServeConfig, name: str) -> None:
    port = getattr(config, name)
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        socket.create_server((config.host, port), family=family).close()
    except OSError as error:
        option = "--port" if name == "port" else f"{name}="
        remedy = f"another {option}, or 0" if error.errno in (EADDRINUSE, EACCES) else "another host="
        address = config.address(port)
        raise UserError(f"cannot listen on {address} ({error.strerror}): choose {remedy}.") from error


def _end_at_signals() -> None:
    """Let a signal end this process by an exception from now on, so that what has been started is ended, too."""

    def end(number: int, _: object) -> None:
        for each in SIGNALS:  # another one would interrupt the end
            signal.signal(each, signal.SIG_IGN)
        # Not by print, which may be what the signal has interrupted.
        os.write(sys.stderr.fileno(), b"t2i: stopped before the service was ready.\n")
        sys.exit(128 + number)

    for each in SIGNALS:
        signal.signal(each, end)


def _wait_for_signal() -> None:
    stopped = threading.Event()
    for number in SIGNALS:
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
