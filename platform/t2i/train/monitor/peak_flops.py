"""The peak FLOP/s of a device, by its name or measured: MFU is the share of it that training reaches."""

from __future__ import annotations

import re
import time
from functools import cache

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The number formats of ``train.precision``."""

SECONDS_OF_LAST_PRODUCT = 0.01
"""Measuring ends with the first product that takes this long: larger ones are hardly faster. About 0.1 s in all."""

TERA = 1e12
PEAKS: dict[tuple[str, ...], tuple[float | None, float, float]] = {
    ("B200",): (2250 * TERA, 2250 * TERA, 75 * TERA),
    ("H200",): (989.5 * TERA, 989.5 * TERA, 67 * TERA),
    ("H100", "NVL"): (835 * TERA, 835 * TERA, 60 * TERA),
    ("H100", "PCIE"): (756 * TERA, 756 * TERA, 51 * TERA),
    ("H100",): (989.5 * TERA, 989.5 * TERA, 67 * TERA),
    ("A100",): (312 * TERA, 312 * TERA, 19.5 * TERA),
    ("L40S",): (362 * TERA, 362 * TERA, 91.6 * TERA),
    ("L40",): (181 * TERA, 181 * TERA, 90.5 * TERA),
    ("L4",): (121 * TERA, 121 * TERA, 30.3 * TERA),
    ("A10",): (125 * TERA, 125 * TERA, 31.2 * TERA),
    ("4090",): (165.2 * TERA, 165.2 * TERA, 82.6 * TERA),
    ("V100", "PCIE"): (None, 112 * TERA, 14 * TERA),
    ("V100",): (None, 125 * TERA, 15.7 * TERA),
}
"""Words of a GPU's name -> its peak FLOP/s in bf16, fp16 and fp32, from NVIDIA's data sheets.

bf16 and fp16 are those of tensor cores that accumulate in fp32, without sparsity (halved where the sheet counts it);
fp32 is without TF32, so that training in fp32 may exceed it where TF32 is allowed, as it is in cuDNN's convolutions by
default. A GPU is the first entry whose words are all in its name. V100s have no bf16.
"""


def peak_flops(device: torch.device, precision: str) -> float:
    """Return the peak FLOP/s of one device in ``fp32``, ``bf16`` or ``fp16``: by its name, or else measured once."""
    if device.type == "cuda":
        known = peak_by_name(torch.cuda.get_device_name(device), precision)
        if known:
            return known
    return measured_peak(str(device), precision, torch.get_num_threads())


def peak_by_name(name: str, precision: str) -> float | None:
    """Return the peak of a GPU by its name (of ``torch.cuda.get_device_name``), None if it is not in the table."""
    words = set(re.split(r"[\s-]+", name.upper()))
    columns = next((columns for key, columns in PEAKS.items() if words.issuperset(key)), (None, None, None))
    return dict(zip(("bf16", "fp16", "fp32"), columns, strict=True))[precision]


@cache
def measured_peak(device: str, precision: str, threads: int) -> float:  # noqa: ARG001  a key of the cache
    """Return the best FLOP/s of square matrix products, larger and larger until :data:`SECONDS_OF_LAST_PRODUCT`."""
    size, seconds, best = 256, 0.0, 0.0
    while seconds < SECONDS_OF_LAST_PRODUCT:
        matrix = torch.full((size, size), 0.5, dtype=DTYPES[precision], device=device)
        seconds = min(
            _seconds_of_product(matrix) for _ in range(2)
        )  # the first of a size may have to allocate and choose a kernel
        best = max(best, 2 * size**3 / seconds)
        size *= 2
    return best


def _seconds_of_product(matrix: torch.Tensor) -> float:
    begun = time.perf_counter()
    product = matrix @ matrix
    product[0, 0].item()  # waits for a GPU
    return time.perf_counter() - begun
