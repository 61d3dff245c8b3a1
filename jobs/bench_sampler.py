"""Time the sampler beside its own alternatives, in one run: ratios, not absolutes.

    python jobs/bench_sampler.py candidates=16 repeats=5

Compares the engine (keys and values cached) with feeding the whole stream again for every token, on one random-weight
prior of the preset's shape. Figures and machine belong in jobs/BENCHMARKS.md.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import dataclass

import torch

from _bench import gemm_flops, machine, timed
from models.presets import get_preset
from models.prior import Prior, PriorConfig, text_tensor
from models.prior.sampling import sample
from models.settings import setting
from t2i.config import run_job
from t2i.engine import Engine, Request


@dataclass
class BenchSampler:
    """What to sample, and how often."""

    preset: str = setting("tiny", "shape of the prior: see models/presets.py")
    candidates: int = setting(16, "images of one caption, sampled together")
    repeats: int = setting(5, "timed runs of each sampler, in turn; the median counts")
    threads: int = setting(2, "CPU threads")

    @property
    def prior(self) -> PriorConfig:
        return get_preset(self.preset).prior


def main(config: BenchSampler) -> None:
    torch.set_num_threads(config.threads)
    prior = Prior(config.prior).eval()
    samplers = {
        "engine": lambda: with_engine(prior, config),
        "whole stream again": lambda: without_cache(prior, config),
    }
    seconds = timed(samplers, config.repeats)
    tokens = config.candidates * prior.layout.image_length
    bound = 2 * sum(p.numel() for p in prior.blocks.parameters()) * tokens / gemm_flops()
    print(machine())
    print(f"preset {config.preset}, {config.candidates} candidates of {prior.layout.image_length} tokens")
    print(f"{'matrix products alone':<24} {tokens / bound:>8.0f} tokens/s (the bound)")
    for name, value in seconds.items():
        print(f"{name:<24} {tokens / value:>8.0f} tokens/s, {bound / value:.0%} of the bound")
    print(f"{'engine / whole stream':<24} {seconds['whole stream again'] / seconds['engine']:>8.1f} x")


def with_engine(prior: Prior, config: BenchSampler) -> None:
    """One request through the engine."""
    engine = Engine(prior, slots=config.candidates)
    engine.add(Request("bench", (1, 2, 3), config.candidates, seed=0))
    while engine.has_work:
        engine.step()


@torch.inference_mode()
def without_cache(prior: Prior, config: BenchSampler) -> None:
    """The same tokens by a full forward for each."""
    n, layout = config.candidates, prior.layout
    text = text_tensor([[1, 2, 3]] * n, layout)
    tokens = torch.zeros(n, layout.image_length, dtype=torch.long)
    seeds, candidates, temperatures = torch.zeros(n, dtype=torch.long), torch.arange(n), torch.ones(n)
    for position in range(layout.image_length):
        end = layout.prefix_length + position
        hidden = prior(layout.inputs(text, tokens)[:, :end])[:, -1]
        positions = torch.full((n,), position)
        tokens[:, position] = sample(prior.image_logits(hidden), seeds, candidates, positions, temperatures)


if __name__ == "__main__":
    run_job(main, BenchSampler, "bench_sampler")
