"""The CPU time of a service's processes on this machine, by what they are."""

from __future__ import annotations

import re
import time
from collections import Counter
from contextlib import suppress

import psutil

PART = re.compile(r"ServeReplica:[^:]+:(gateway|prior|decoder|reranker)\b")
RAY = "Ray"
LOOP = "prior's event loop"
"""The threads of a prior but those that step its engine."""


def cpu_seconds(engine_threads: int) -> Counter[str]:
    """Return the CPU seconds that the processes below this one have had, and this one itself, as ``client``."""
    spent = Counter({"client": time.process_time()})
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            found = PART.search(" ".join(process.cmdline()))
            part = found[1] if found else RAY
            spent[part] += sum(process.cpu_times()[:2])
            if part == "prior":
                threads = sorted(thread.user_time + thread.system_time for thread in process.threads())
                spent[LOOP] += sum(threads[:-engine_threads])
    return spent


def idle_rates(engine_threads: int, for_s: float) -> Counter[str]:
    """Return the CPU seconds a second that each part takes while nobody asks for anything."""
    before = cpu_seconds(engine_threads)
    time.sleep(for_s)
    after = cpu_seconds(engine_threads)
    return Counter({part: (after[part] - before[part]) / for_s for part in after})
