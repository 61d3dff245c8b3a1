from __future__ import annotations

import numpy as np
import torch

from t2i.train.noise import Noise


def test_a_row_has_its_noise_whoever_takes_it() -> None:
    batch = Noise.of_step(0, 3, 8)
    half = Noise.of_step(0, 3, 8)[4:]
    assert np.array_equal(batch.uniform(1)[4:], half.uniform(1))
    assert [random.random() for random in batch.numpy(0)][4:] == [random.random() for random in half.numpy(0)]
    cpu = torch.device("cpu")
    drawn = [[torch.rand(2, generator=g) for g in noise.torch(2, cpu)] for noise in (batch[4:], half)]
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


def test_seed_step_row_and_stream_all_matter() -> None:
    draws = [Noise.of_step(*key, 4).uniform(stream) for key in ((0, 0), (0, 1), (1, 0)) for stream in (0, 1)]
    assert len(np.unique(np.concatenate(draws))) == 24


def test_numbers_are_uniform() -> None:
    uniform = Noise.of_step(0, 0, 20_000).uniform(0)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    shares = np.histogram(uniform, bins=10, range=(0, 1))[0] / 20_000
    assert np.allclose(shares, 0.1, atol=0.01)
    assert abs(np.corrcoef(uniform, Noise.of_step(0, 0, 20_000).uniform(1))[0, 1]) < 0.03
