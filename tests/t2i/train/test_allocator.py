"""Memory that is freed stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys, threading
import torch
from t2i.train.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        torch.ones(12 << 20)  # 48 MiB: more than malloc keeps of its own accord
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if sys.argv[1] == "keep":
    keep_freed_memory()
thread = threading.Thread(target=faults)  # as Ray Train runs a worker's loop
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_pages_are_rarely_found_and_cleared_anew() -> None:
    def faults(word: str) -> int:
        ended = subprocess.run([sys.executable, "-c", COUNT_FAULTS, word], capture_output=True, text=True, check=True)
        return int(ended.stdout)

    assert 2 * faults("keep") < faults("give back")
