"""Commands in process groups of their own: what a test starts, with all that it starts in turn, ends with the test."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent


def start(words: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start a command from the repository's root, importing this checkout, as the leader of a process group."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"} | options.pop("env", {})
    settings: dict[str, Any] = {"cwd": ROOT, "text": True, "start_new_session": True, "env": environment} | options
    return subprocess.Popen(list(words), **settings)


def kill_group(process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> int:
    """Send a signal to everything in the group of ``process``, wait for its leader and return its exit code."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    return process.wait(timeout=60)


@contextmanager
def running(words: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a command while the block runs; whatever is left of its group is killed afterwards."""
    process = start(words, **options)
    try:
        yield process
    finally:
        kill_group(process)


def descendants(pid: int) -> dict[int, str]:
    """Return the processes that a process has started, directly or not: pid -> command line."""
    table = _table()
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        children = {child: each.command for child, each in table.items() if each.parent == parent}
        found |= children
        waiting += children
    return found


def in_session(leader: int) -> dict[int, str]:
    """Return the processes of a session that have not ended: pid -> command line."""
    return {pid: each.command for pid, each in _table().items() if each.session == leader and each.state != "Z"}


def is_running(pid: int) -> bool:
    """Return whether a process has not ended."""
    with suppress(OSError):
        return _read(pid).state != "Z"
    return False


class _Process(NamedTuple):
    parent: int
    session: int
    state: str
    command: str


def _table() -> dict[int, _Process]:
    """Return all processes by their ids."""
    table = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            table[int(folder.name)] = _read(int(folder.name))
    return table


def _read(pid: int) -> _Process:
    folder = Path("/proc") / str(pid)
    state, parent, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return _Process(int(parent), int(session), state, command)
