"""A GPU: what it is, and what it reaches in the two things that bound everything else."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

import torch

from harness import copy_bandwidth, gemm_flops, machine
from t2i.train.monitor.peak_flops import peak_flops


@dataclass(frozen=True)
class Card:
    """A device in words, with what was measured on it now.

    ``bandwidth`` is the bytes a second that a copy reads and writes, ``flops`` the FLOP/s of a large product in bf16.
    MFU is a share of ``peak``: the data sheet's FLOP/s, or the best product's of a device that is not in our table.
    """

    words: str
    bandwidth: float
    flops: float
    peak: float

    def bound(self, flops: float, moved: float) -> float:
        """Return the seconds that neither so many FLOPs nor so many bytes can be faster than."""
        return max(flops / self.flops, moved / self.bandwidth)


def measured_card(device: str, copied: int, product: int) -> Card:
    """Return the device, measured by a copy of ``copied`` bytes and products of ``product`` x ``product`` matrices."""
    return Card(
        words=described(device),
        bandwidth=copy_bandwidth(copied, device),
        flops=gemm_flops(torch.bfloat16, product, device),
        peak=peak_flops(torch.device(device), "bf16"),
    )


def described(device: str) -> str:
    """Return the device in words: a GPU's name, memory and driver, and torch's version."""
    if device == "cpu":
        return machine()
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()[0]
    gigabytes = torch.cuda.get_device_properties(device).total_memory / 1e9
    return f"{torch.cuda.get_device_name(device)}, {gigabytes:.0f} GB, driver {driver}, torch {torch.__version__}"
