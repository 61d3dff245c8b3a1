"""How much memory a call takes, as the operating system sees it."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes of this process that are in memory now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def peak_memory(run: Callable[[], object], every_s: float = 0.002) -> int:
    """Bytes by which ``run`` raises the process's resident memory at most, looked at every ``every_s`` seconds."""
    ctypes.CDLL(None).malloc_trim(0)  # what the heap keeps of earlier calls would hide what this one needs
    before, done = resident(), threading.Event()
    seen = [before]

    def watch() -> None:
        while not done.wait(every_s):
            seen.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return max(seen) - before
