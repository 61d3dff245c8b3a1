from __future__ import annotations

import numpy as np
import pytest
import torch

from t2i.train.sampler import EpochSampler, generator


@pytest.mark.parametrize(("n", "batch"), [(50, 16), (48, 16), (5, 16)])
def test_every_row_comes_exactly_once_in_each_epoch(n, batch):
    sampler = EpochSampler(n, batch, seed=1)
    stream = np.concatenate([sampler.rows(step) for step in range(3 * n)])
    for epoch in range(3 * batch):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))


@pytest.mark.parametrize("world", [2, 4, 8])
def test_workers_share_the_batch_of_one(world):
    sampler = EpochSampler(50, 16, seed=1)
    for step in range(10):
        shares = [sampler.rows(step, rank, world) for rank in range(world)]
        assert np.array_equal(np.concatenate(shares), sampler.rows(step))


def test_order_depends_on_seed_and_epoch():
    sampler = EpochSampler(64, 64, seed=1)
    assert not np.array_equal(sampler.rows(0), sampler.rows(1))
    assert not np.array_equal(sampler.rows(0), EpochSampler(64, 64, seed=2).rows(0))


def test_a_generator_is_a_function_of_its_whole_key():
    draws = [torch.rand(2, generator=generator("cpu", *key)) for key in [(0, 1, 2), (0, 1, 2), (0, 2, 1), (1, 1, 2)]]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])
