"""Gumbel-max sampling: the right distribution, and noise that depends on nothing but its key."""

from __future__ import annotations

import math

import torch

from models.prior.sampling import gumbel_noise, sample


def keys(count: int, **fixed: int) -> list[torch.Tensor]:
    index = torch.arange(count)
    return [torch.full((count,), fixed[name]) if name in fixed else index for name in ("seed", "candidate", "position")]


def test_noise_is_standard_gumbel() -> None:
    noise = gumbel_noise(*keys(64, seed=1, candidate=2), 4096).double()
    assert abs(noise.mean() - 0.5772) < 0.01
    assert abs(noise.var() - math.pi**2 / 6) < 0.02


def test_noise_of_different_keys_is_uncorrelated() -> None:
    for fixed in ({"candidate": 3, "position": 5}, {"seed": 3, "position": 5}, {"seed": 3, "candidate": 5}):
        noise = gumbel_noise(*keys(32, **fixed), 8192)
        correlation = torch.corrcoef(noise).fill_diagonal_(0)
        assert correlation.abs().max() < 0.06


def test_noise_does_not_depend_on_the_batch() -> None:
    seeds, candidates, positions = torch.tensor([5, 6]), torch.tensor([1, 9]), torch.tensor([40, 3])
    together = gumbel_noise(seeds, candidates, positions, 100)
    for row in range(2):
        alone = gumbel_noise(seeds[row : row + 1], candidates[row : row + 1], positions[row : row + 1], 100)
        assert torch.equal(alone[0], together[row])


def test_samples_follow_the_softmax_at_a_temperature() -> None:
    logits, count, temperature = torch.tensor([2.0, 1.0, 0.0, -1.0]), 40_000, 1.7
    draws = sample(logits.expand(count, -1), *keys(count, seed=3, position=0), torch.full((count,), temperature))
    shares = torch.bincount(draws, minlength=4) / count
    torch.testing.assert_close(shares, (logits / temperature).softmax(0), atol=0.01, rtol=0)


def test_temperature_zero_is_greedy() -> None:
    logits = torch.randn(16, 100)
    draws = sample(logits, *keys(16, seed=3, position=0), torch.zeros(16))
    assert torch.equal(draws, logits.argmax(-1))
