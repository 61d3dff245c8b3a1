"""Time one layer's attention over whole streams, sparse and dense, forward and backward.

    python jobs/benchmarks/bench_attention.py heads=8 batch=2

Each kind of mask is timed, by default with the paper's stream (256 text positions, 32 x 32 image tokens). Keep the
results in docs/benchmarks.md, with a description of the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch
from torch import nn

from harness import machine, timed
from models.prior.attention import DenseAttention, FlexAttention, LocalAttention
from models.prior.masks import Kind
from models.settings import setting
from t2i.config import run_job


@dataclass
class BenchAttention:
    """The sizes of the layer, and how often to measure."""

    batch: int = setting(2, "streams in a batch", at_least=1)
    heads: int = setting(8, "attention heads", at_least=1)
    head_width: int = setting(64, "width of one head", at_least=1)
    text_length: int = setting(256, "text positions", at_least=1)
    grid: int = setting(32, "rows and columns of image tokens", at_least=1)
    repeats: int = setting(7, "timed runs of each kind, in turn; the median is printed", at_least=1)
    threads: int = setting(2, "CPU threads", at_least=1)
    device: str = setting("cpu", "cpu or cuda; on cuda the sparse attention is FlexAttention")


def main(config: BenchAttention) -> None:
    """Print the time of each kind of layer, dense and sparse."""
    torch.set_num_threads(config.threads)
    sparse = LocalAttention if config.device == "cpu" else FlexAttention
    prefix, grid = config.text_length + 2, (config.grid, config.grid)
    print(machine())
    for kind in get_args(Kind):
        attentions = {"dense": DenseAttention(kind, prefix, grid), "sparse": sparse(kind, prefix, grid)}
        runs = {name: step(attention.to(config.device), config) for name, attention in attentions.items()}
        seconds = timed(runs, config.repeats, f"attention of a {kind} layer")
        times = ", ".join(f"{name} {1e3 * value:.1f} ms" for name, value in seconds.items())
        print(f"{kind:<8} {times}: {seconds['dense'] / seconds['sparse']:.2f} x")


def step(attention: nn.Module, config: BenchAttention) -> Callable[[], None]:
    """Return a function that runs forward and backward on fixed inputs."""
    length = config.text_length + 2 + config.grid**2 - 1
    shape = (3, config.batch, config.heads, length, config.head_width)
    qkv = torch.randn(shape, device=config.device, requires_grad=True)
    return partial(forward_and_backward, attention, qkv)


def forward_and_backward(attention: nn.Module, qkv: torch.Tensor) -> None:
    """Run forward and backward of q, k, v [3, B, A, L, E]."""
    qkv.grad = None
    attention(*qkv).sum().backward()


if __name__ == "__main__":
    run_job(main, BenchAttention, "bench_attention")
