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
