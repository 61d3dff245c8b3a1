"""Compare the sampling engine's speed with lower bounds and with other implementations, all timed in the same run.

    python jobs/benchmarks/bench_engine.py                    our engine only              (make bench)
    python jobs/benchmarks/bench_engine.py peers=true         other implementations too    (make bench-peers)

Every time is the median of one decode step, which makes one image token for each candidate, halfway down the image.
All implementations have random weights of the same sizes. Those of a table are timed in turn, so that a change in the
machine's speed affects them alike: the ratios say more than the milliseconds. docs/benchmarks.md keeps the results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from compared_prior import ComparedPrior
from harness import gemm_flops, machine, medians, read_bandwidth, seconds
from models.prior import PriorConfig, prior_cost
from models.prior.decoding.packed import PackedLinear
from models.settings import setting
from peers import dalle_pytorch, hf_static_cache
from ratios import keep
from samplers import DenseSampler, busy_engine, feed_whole_streams, new_prior, time_engine, time_parts
from step_work import step_work
from t2i.config import run_job

Measures = dict[str, Callable[[], float]]
"""Name of an implementation -> a function that times it once and returns the seconds per decode step."""


@dataclass
class BenchEngine(ComparedPrior):
    """The sizes of the prior, and what to time."""

    batches: list[int] = setting(
        lambda: [1, 16, 64], "numbers of candidates sampled together; each gets a table", at_least=1
    )
    curve: list[int] = setting(
        lambda: [1, 4, 16, 64, 128, 256, 512], "numbers of candidates of one caption to time", at_least=1
    )
    steps: int = setting(16, "decode steps in one timing", at_least=1)
    repeats: int = setting(5, "timings of each implementation, in turn; the median is printed", at_least=1)
    threads: int = setting(2, "CPU threads", at_least=1)
    peers: bool = setting(False, "also time the packages transformers and dalle-pytorch")


def main(config: BenchEngine) -> None:
    """Print all tables."""
    torch.set_num_threads(config.threads)
    print(machine())
    print(f"{prior_cost(config.shape).parameters / 1e6:.0f} M parameters, {config.shape}")
    for batch in config.batches:
        bounds(config, batch)
        compare(config, batch)
    cost_of_candidates(config)
    cost_of_captions(config, max(config.batches))
    shares(config, max(config.batches))


def bounds(config: BenchEngine, batch: int) -> None:
    """Print two lower bounds of a step's time: of its arithmetic, and of reading from memory each byte it needs."""
    work, bandwidth, speed = step_work(config.shape, batch), read_bandwidth(), gemm_flops(torch.bfloat16)
    print(f"\n## {batch} candidates of one caption\n")
    at_speed = f"at a large product's {speed / 1e9:.0f} GFLOP/s: {1e3 * work.flops / speed:.2f} ms"
    print(f"bf16 bounds: {work.flops / 1e9:.2f} GFLOP {at_speed};")
    print(f"{work.bytes / 1e6:.0f} MB at {bandwidth / 1e9:.0f} GB/s: {1e3 * work.bytes / bandwidth:.2f} ms\n")


def compare(config: BenchEngine, batch: int) -> None:
    """Print the table of all implementations for ``batch`` candidates, and the size of the engine's cache."""
    shape, steps = config.shape, config.steps
    priors = {dtype: new_prior(shape, dtype) for dtype in ("bfloat16", "float32", "int8")}
    engines = {f"engine, {dtype}": busy_engine(prior, batch) for dtype, prior in priors.items()}
    if batch == 1:
        engines |= {
            f"engine, {dtype}, compiled": busy_engine(priors[dtype], batch, compiled=True)
            for dtype in ("bfloat16", "int8")
        }
    measures: Measures = {
        "matrix products alone, bfloat16": products_alone(shape, batch, packed=False),
        "matrix products alone, packed weights": products_alone(shape, batch, packed=True),
    }
    measures |= {name: time_engine(engine, steps) for name, engine in engines.items()}
    measures |= {
        "dense static cache, bfloat16": partial(DenseSampler(priors["bfloat16"], batch).measure, steps),
        "whole stream again, bfloat16": partial(feed_whole_streams, priors["bfloat16"], batch, 1),
    }
    if config.peers:
        measures |= others(shape, batch, steps)
    table(medians(measures, config.repeats, f"decode step, N = {batch}"), "engine, bfloat16", batch)
    dense = 2 * shape.layers * batch * shape.layout.length * shape.width * 2
    held = engines["engine, bfloat16"].cache_bytes
    print(f"\nkeys and values in bf16: {held / 1e6:.0f} MB, {held / dense:.3f} of a dense cache's {dense / 1e6:.0f} MB")


def others(shape: PriorConfig, batch: int, steps: int) -> Measures:
    """Return the other implementations; beyond 16 candidates dalle-pytorch takes minutes a step and is left out."""
    made = [hf_static_cache(shape, batch, dtype, steps) for dtype in ("bfloat16", "float32")]
    made += [dalle_pytorch(shape, batch, 1)] if batch <= 16 else []
    return {peer.name: peer.seconds_per_step for peer in made}


def products_alone(shape: PriorConfig, batch: int, packed: bool) -> Callable[[], float]:
    """Return a function that times the matrix products of a step and nothing else."""
    width = shape.width
    block = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    layers = [nn.Linear(*size).bfloat16() for size in [*block * shape.layers, (width, shape.codebook_size)]]
    calls = [PackedLinear(layer) for layer in layers] if packed else layers
    inputs = [torch.randn(batch, layer.in_features).bfloat16() for layer in layers]

    @torch.inference_mode()
    def run() -> None:
        for call, x in zip(calls, inputs, strict=True):
            call(x)

    return seconds(run, times=4)


def cost_of_candidates(config: BenchEngine) -> None:
    """Print a step's time for each number of candidates; engines exist one at a time, as large ones take gigabytes."""
    print("\n## One caption, n candidates, bf16\n")
    prior, steps = new_prior(config.shape, "bfloat16"), {}
    for n in config.curve:
        steps[n] = medians({"": time_engine(busy_engine(prior, n), config.steps)}, config.repeats)[""]
    keep("decode step of one caption", {f"N = {n}": step for n, step in steps.items()})
    first = steps[config.curve[0]]
    for n, step in steps.items():
        print(f"n = {n:<4} {1e3 * step:7.2f} ms a step, {step / first:5.2f} of the first, {n / step:6.0f} tokens/s")


def cost_of_captions(config: BenchEngine, batch: int) -> None:
    """Print a step's time when the same number of candidates is shared out among 1, 4, 16 or 64 captions."""
    print(f"\n## {batch} candidates of C captions, bf16\n")
    prior = new_prior(config.shape, "bfloat16")
    captions = [c for c in (1, 4, 16, 64) if c <= batch]
    measures = {f"C = {c}": time_engine(busy_engine(prior, batch, c), config.steps) for c in captions}
    steps = medians(measures, config.repeats, f"decode step of C captions, N = {batch}")
    for name, step in steps.items():
        print(f"{name:<8} {1e3 * step:7.2f} ms a step, {steps['C = 1'] / step:.3f} of the speed of one caption")


def shares(config: BenchEngine, batch: int) -> None:
    """Print how much of a step's time each of its parts takes."""
    print(f"\n## Where {batch} candidates of one caption spend a step, bf16\n")
    engine = busy_engine(new_prior(config.shape, "bfloat16"), batch)
    spent = time_parts(engine, config.steps * config.repeats)
    step = spent.pop("step")
    for name, part in spent.items():
        print(f"{name:<28} {1e3 * part:7.2f} ms {part / step:6.1%}")
    print(f"{'the rest':<28} {1e3 * (step - sum(spent.values())):7.2f} ms {1 - sum(spent.values()) / step:6.1%}")
    print(f"{'a step':<28} {1e3 * step:7.2f} ms")


def table(steps: dict[str, float], ours: str, batch: int) -> None:
    """Print each implementation's milliseconds and tokens per second, and how many times as fast ``ours`` is."""
    print(f"| | ms a step | tokens/s | {ours} is |")
    print("|---|---|---|---|")
    for name, step in steps.items():
        print(f"| {name} | {1e3 * step:.2f} | {batch / step:.1f} | {step / steps[ours]:.2f} x |")


if __name__ == "__main__":
    run_job(main, BenchEngine, "bench_engine")
