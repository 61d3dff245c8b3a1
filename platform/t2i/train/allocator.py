"""What this process's malloc does with memory that is freed."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
"""Parameters of glibc's ``mallopt``, see its manual page."""


def keep_freed_memory() -> None:
    """Have malloc keep what is freed for what comes next, instead of giving it back to the system.

    A step on a CPU makes and frees the same large tensors each time, and the system would have to find and clear their
    pages anew. Call it before other threads begin. Where the C library is not glibc, nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # Windows has no library of that name at all
        return
    mallopt(TRIM_THRESHOLD, -1)  # never
    mallopt(MMAP_MAX, 0)  # also large tensors come from the heap, which is kept
    mallopt(ARENA_MAX, 1)  # also in threads: a thread's own heap is of 64 MiB at most
