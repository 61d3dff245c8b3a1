"""Functions of ``kernels.c``, compiled on first use with the system's C compiler."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path

import torch

from models.files import replacing
from models.processor import processor

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ["-O3", "-march=native", "-std=c11", "-fopenmp", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math"]
DEFINES = {torch.bfloat16: ["-DBFLOAT16"], torch.float32: []}
POINTER, INTEGER, REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


@cache
def kernels(dtype: torch.dtype, text_dtype: torch.dtype | None = None) -> ctypes.CDLL | None:
    """Return the library of C functions for tensors of ``dtype`` on a CPU, or None where it cannot be compiled.

    Text keys and values are of ``text_dtype``: torch.int8, or by default ``dtype``, too.

    The file name depends on source, flags and processor, and the file appears atomically: processes that compile at the
    same time need no lock. The library uses torch's threads, since both are linked against the same OpenMP.
    """
    if dtype not in DEFINES:
        return None
    of_text = ["-DTEXT_INT8"] if text_dtype == torch.int8 else []
    command = [os.environ.get("CC", "cc"), *FLAGS, *DEFINES[dtype], *of_text]
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


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def has_kernels(dtype: torch.dtype, text_dtype: torch.dtype) -> bool:
    """Return whether there are :func:`kernels`; torch.compile asks once and does not trace it."""
    return kernels(dtype, text_dtype) is not None


def build(command: list[str], path: Path) -> None:
    """Compile ``kernels.c`` into the library ``path``."""
    with replacing(path) as temporary:
        subprocess.run([*command, "-o", str(temporary), str(SOURCE), "-lm"], check=True, capture_output=True)


def declare(library: ctypes.CDLL) -> None:
    """Declare the argument and return types of the library's functions, in the order of ``kernels.c``."""
    library.decode_attention.argtypes = [*[POINTER] * 3, INTEGER, *[POINTER] * 12, *[INTEGER] * 6, REAL, INTEGER]
    library.group_logsumexp.argtypes = [*[POINTER] * 3, *[INTEGER] * 4]
    library.decode_attention.restype = library.group_logsumexp.restype = None


def cache_directory() -> Path:
    """Return the directory in which compiled libraries are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "t2i"
