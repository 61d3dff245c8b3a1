"""Gumbel-max sampling: the right distribution, and noise that depends on nothing but its key."""

from __future__ import annotations

import math

import torch

from models.prior.sampling import apply_top_k_top_p, gumbel_noise, noise_keys, sample


def keys(count: int, **fixed: int) -> tuple[torch.Tensor, torch.Tensor]:
    index = torch.arange(count)
    seed, candidate, position = (
        torch.full((count,), fixed[name]) if name in fixed else index for name in ("seed", "candidate", "position")
    )
    return noise_keys(seed, candidate), position


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
    keys, positions = noise_keys(torch.tensor([5, 6]), torch.tensor([1, 9])), torch.tensor([40, 3])
    together = gumbel_noise(keys, positions, 100)
    for row in range(2):
        alone = gumbel_noise(keys[row : row + 1], positions[row : row + 1], 100)
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


def kept(logits: torch.Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> list[int]:
    restricted = apply_top_k_top_p(
        logits[None], torch.tensor([temperature]), torch.tensor([top_k]), torch.tensor([top_p])
    )
    return restricted[0].isfinite().nonzero()[:, 0].tolist()


def test_top_k_keeps_the_likeliest_of_each_row() -> None:
    logits = torch.tensor([0.1, 3.0, 2.0, -1.0])
    assert kept(logits) == [0, 1, 2, 3]
    assert kept(logits, top_k=2) == [1, 2]
    assert kept(logits, top_k=99) == [0, 1, 2, 3]


def test_top_p_keeps_the_fewest_that_reach_p_of_the_tempered_distribution() -> None:
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    assert kept(logits, top_p=0.49) == [0]
    assert kept(logits, top_p=0.51) == [0, 1]
    assert kept(logits, top_p=0.8) == [0, 1, 2]
    assert kept(logits, top_p=1e-9) == [0]
    assert kept(logits, temperature=0.25, top_p=0.9) == [0]
    assert kept(logits, top_k=1, top_p=0.8) == [0]


def test_rows_are_restricted_each_by_its_own_limits() -> None:
    logits = torch.randn(3, 50)
    together = apply_top_k_top_p(logits, torch.ones(3), torch.tensor([5, 0, 0]), torch.tensor([1.0, 0.3, 1.0]))
    assert together[0].isfinite().sum() == 5
    assert torch.equal(together[2], logits[2])
    assert together[1].isfinite().nonzero()[:, 0].tolist() == kept(logits[1], top_p=0.3)
