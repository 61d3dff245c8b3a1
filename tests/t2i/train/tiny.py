"""Configurations and helpers that several training tests share."""

from __future__ import annotations

import socket

from models.dvae import DVAEConfig
from models.prior import PriorConfig


def tiny_dvae() -> DVAEConfig:
    """Halves the images' side; 16 codes."""
    return DVAEConfig(width=8, groups=2, blocks_per_group=1, codebook_size=16, decoder_input_width=8)


def tiny_prior(layers: int = 2) -> PriorConfig:
    """Six text tokens and 2 x 2 image tokens of 16 codes."""
    sizes = {"text_length": 6, "text_vocabulary": 300, "grid_height": 2, "grid_width": 2, "codebook_size": 16}
    return PriorConfig(layers=layers, heads=2, head_width=8, **sizes)


def free_port() -> int:
    """A TCP port of 127.0.0.1 for a process group to meet at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
