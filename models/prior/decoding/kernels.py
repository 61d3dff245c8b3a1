"""``kernels.c``, compiled on first use with the system's C compiler."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path

import torch

from models.files import replacing

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ["-O3", "-march=native", "-std=c11", "-fopenmp", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math"]
DEFINES = {torch.bfloat16: ["-DBFLOAT16"], torch.float32: []}
POINTER, NUMBER = ctypes.c_void_p, ctypes.c_int64


@cache
def kernels(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The C functions for a type of elements on a CPU; none where they cannot be compiled.

    The library is named by its source and the processor, and put in place whole: no lock, and no process that is killed
    leaves anything half-made. It shares torch's threads, since both are linked against one OpenMP.
    """
    if dtype not in DEFINES:
        return None
    command = [os.environ.get("CC", "cc"), *FLAGS, *DEFINES[dtype]]
    identity = hashlib.sha256(SOURCE.read_bytes() + repr((command, processor())).encode()).hexdigest()[:16]
    path = cache_directory() / f"kernels-{identity}.so"
    try:
        if not path.exists():
            build(command, path)
        library = ctypes.CDLL(str(path))
    except (OSError, subprocess.CalledProcessError):
        return None
    declare(library)
    return library


def build(command: list[str], path: Path) -> None:
    """Compile the source into ``path``."""
    with replacing(path) as temporary:
        subprocess.run([*command, "-o", str(temporary), str(SOURCE), "-lm"], check=True, capture_output=True)


def declare(library: ctypes.CDLL) -> None:
    """Give the functions their signatures."""
    real = ctypes.c_float
    library.decode_attention.argtypes = [*[POINTER] * 3, NUMBER, *[POINTER] * 8, *[NUMBER] * 5, real, NUMBER]
    library.group_logsumexp.argtypes = [*[POINTER] * 3, *[NUMBER] * 4]
    library.decode_attention.restype = library.group_logsumexp.restype = None


def processor() -> str:
    """What ``-march=native`` depends on: machines that share a home directory need not be alike."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return os.uname().machine
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), os.uname().machine)


def cache_directory() -> Path:
    """Where compiled libraries are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "t2i"
