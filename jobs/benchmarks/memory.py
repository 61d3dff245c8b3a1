"""Measures how much memory a call takes, as the operating system sees it."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Return the resident memory of this process in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def peak_memory(run: Callable[[], object], every_s: float = 0.002) -> int:
    """Run ``run`` and return by how many bytes it raised resident memory at most, sampled every ``every_s`` seconds."""
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that the heap keeps would hide what this call needs
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
