"""What is compiled for this machine's processor must not run on another kind of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch


def processor() -> str:
    """Return a description of the CPU for which ``-march=native`` compiles; machines may share one cache directory."""
    return _described_by("flags", "features") or os.uname().machine


def cpu_name() -> str:
    """Return the processor's name as Linux gives it, else its architecture."""
    return _described_by("model name").partition(":")[2].strip() or os.uname().machine


def reuse_only_code_for_this_processor() -> None:
    """Make ``torch.compile`` take from its cache on disk only what was compiled on a processor like this one.

    Torch's own key leaves the processor out (2.14): code for AVX-512 that it finds on a processor with AVX2 it rebuilds
    there, and it computes wrong numbers. A cache in an image or in a shared folder meets more than one kind.
    """
    torch.compiler.config.cache_key_tag = hashlib.sha256(processor().encode()).hexdigest()[:16]


def _described_by(*words: str) -> str:
    """Return the first line of Linux's description of the processor that begins with one of ``words``, else nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.lower().startswith(words)), "")
