"""A cluster of two machines that asks for a token, and commands that a user on a third one submits jobs by."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import ray

from tests.commands import ROOT
from tests.processes import running
from tests.t2i.train.tiny import free_port

BIN = Path(sys.executable).parent
MAKE = ["make", f"--old-file={BIN.parent}/.installed", f"VENV={BIN.parent}"]
"""``make`` with this environment, which is taken to be up to date."""


@dataclass(frozen=True)
class Cluster:
    """Where the dashboard is, and the token that lets a user in."""

    dashboard: str
    token: str

    def told(self, path: str) -> str:
        """What the dashboard tells at a path to those who have the token."""
        request = Request(f"{self.dashboard}{path}", headers={"Authorization": f"Bearer {self.token}"})
        with urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())


def machine(home: Path) -> dict[str, str]:
    """The environment on a machine whose home directory is ``home`` and whose Python is this one."""
    home.mkdir()
    return {"HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}


def let_in(token: str) -> dict[str, str]:
    """What the README says to set on all machines but the one where the token lies."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}


@contextmanager
def two_machines(folder: Path, cpus: Sequence[int], variables: Mapping[str, str]) -> Iterator[Cluster]:
    """Run a head and a second node, with so many CPUs and these environment variables on both.

    The Ray that other tests share makes way: its processes and these would not find their own head.
    """
    ray.shutdown()
    head, second = ({**machine(folder / name), **variables} for name in ("head", "second"))
    command = ["ray", "get-auth-token", "--generate"]
    token = subprocess.run(command, env=head, capture_output=True, text=True, check=True).stdout.split()[-1]
    port, dashboard, client = free_port(), free_port(), free_port()
    words = ["--head", f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    join = [f"--address=127.0.0.1:{port}"]
    with ExitStack() as stack:
        stack.enter_context(node(folder / "head.log", cpus[0], words, head))
        stack.enter_context(node(folder / "second.log", cpus[1], join, second | let_in(token)))
        yield Cluster(f"http://127.0.0.1:{dashboard}", token)


@contextmanager
def node(log: Path, cpus: int, words: list[str], environment: dict[str, str]) -> Iterator[None]:
    """``ray start``, until it has started."""
    ports = [f"--dashboard-agent-listen-port={free_port()}"]  # 52365 would be the other node's, too
    sizes = [f"--num-cpus={cpus}", "--object-store-memory=300000000"]
    command = ["ray", "start", "--block", "--disable-usage-stats", *ports, *sizes, *words]
    with log.open("w") as file, running(command, env=environment, stdout=file, stderr=file) as process:
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield


def submit(command: Sequence[str], **options: Any) -> str:
    """Run a command that submits a job, once the head's agent is up: Ray has no other way of asking whether it is.

    Returns:
        what it printed; the job has succeeded.
    """
    options = {"cwd": ROOT} | options
    for _ in range(30):
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, **options)
        if "No available agent" not in done.stdout + done.stderr:
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
