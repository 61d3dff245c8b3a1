"""How fast a device can multiply matrices at best: what MFU is a share of."""

from __future__ import annotations

import re
import time
from functools import cache

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The number formats of ``train.precision``."""

SECONDS = 0.01
"""A measurement ends with the first product that takes so long, which larger ones would hardly beat: 0.1 s in all."""

T = 1e12
PEAKS: dict[tuple[str, ...], tuple[float | None, float, float]] = {
    ("B200",): (2250 * T, 2250 * T, 75 * T),
    ("H200",): (989.5 * T, 989.5 * T, 67 * T),
    ("H100", "NVL"): (835 * T, 835 * T, 60 * T),
    ("H100", "PCIE"): (756 * T, 756 * T, 51 * T),
    ("H100",): (989.5 * T, 989.5 * T, 67 * T),
    ("A100",): (312 * T, 312 * T, 19.5 * T),
    ("L40S",): (362 * T, 362 * T, 91.6 * T),
    ("L40",): (181 * T, 181 * T, 90.5 * T),
    ("L4",): (121 * T, 121 * T, 30.3 * T),
    ("A10",): (125 * T, 125 * T, 31.2 * T),
    ("4090",): (165.2 * T, 165.2 * T, 82.6 * T),
    ("V100", "PCIE"): (None, 112 * T, 14 * T),
    ("V100",): (None, 125 * T, 15.7 * T),
}
"""Words of a GPU's name -> FLOP/s in bf16, fp16 (tensor cores that add up in fp32, no sparsity) and plain fp32.

From NVIDIA's data sheets, halved where those count sparsity. The first entry whose words are all in the name holds.
V100s have no bf16. Where TF32 is allowed (cuDNN's convolutions by default), fp32 may be faster than its peak here.
"""


def peak_flops(device: torch.device, precision: str) -> float:
    """FLOP/s of one device in ``fp32``, ``bf16`` or ``fp16``: by its name, or else measured, once per process."""
    if device.type == "cuda":
        known = peak_by_name(torch.cuda.get_device_name(device), precision)
        if known:
            return known
    return measured_peak(str(device), precision, torch.get_num_threads())


def peak_by_name(name: str, precision: str) -> float | None:
    """The peak of a GPU of this name (as ``torch.cuda.get_device_name`` gives it); None if it is not in the table."""
    words = set(re.split(r"[\s-]+", name.upper()))
    columns = next((columns for key, columns in PEAKS.items() if words.issuperset(key)), (None, None, None))
    return dict(zip(("bf16", "fp16", "fp32"), columns, strict=True))[precision]


@cache
def measured_peak(device: str, precision: str, threads: int) -> float:
    """The best FLOP/s of square matrix products that double in size until one takes :data:`SECONDS`."""
    size, seconds, best = 256, 0.0, 0.0
    while seconds < SECONDS:
        matrix = torch.full((size, size), 0.5, dtype=DTYPES[precision], device=device)
        seconds = min(_seconds_of_product(matrix) for _ in range(2))  # the first may have to prepare
        best = max(best, 2 * size**3 / seconds)
        size *= 2
    return best


def _seconds_of_product(matrix: torch.Tensor) -> float:
    begun = time.perf_counter()
    product = matrix @ matrix
    product[0, 0].item()  # waits for a GPU
    return time.perf_counter() - begun
