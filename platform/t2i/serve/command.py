"""``t2i serve``: a service on this machine or cluster until it is interrupted."""

from __future__ import annotations

import argparse
import signal
import socket
import threading
from dataclasses import dataclass
from errno import EACCES, EADDRINUSE
from pathlib import Path

from models.errors import UserError
from models.files import write_whole
from models.settings import setting
from t2i.cluster import RayConfig, start_ray
from t2i.config import load_config
from t2i.logs import get_logger
from t2i.serve.access.access import check_access
from t2i.serve.config import ServeConfig
from t2i.serve.runs import check_run
from t2i.storage import filesystem_for, is_local


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
    for name in ("port", "http_port"):
        _check_port(config, name)
    from t2i.serve.launch import launch_service

    start_ray(config.ray)
    with launch_service(config) as address:
        note_address(config.run, address)
        print(f"serving {config.run} on {address}{_and_http(config)}", flush=True)
        _wait_for_signal()


def note_address(run: str, address: str) -> None:
    """Write the service's address into the run directory, for scripts; a run that is only read goes without."""
    if not is_local(filesystem_for(run)[0]):
        return
    try:
        write_whole(Path(run) / "serve" / "address", address.encode())
    except OSError as error:
        get_logger("serve").info("%s cannot be written (%s): its serve/address is left out", run, error.strerror)


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


def _wait_for_signal() -> None:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
