"""Commands in process groups of their own: what a test starts, with all that it starts in turn, ends with the test."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

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
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        children = [child for child, of in parents.items() if of == parent]
        found |= {child: commands[child] for child in children if child in commands}
        waiting += children
    return found
