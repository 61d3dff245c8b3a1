from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from t2i.metrics.mind import mind


def test_is_three_times_the_width_times_the_mean_optimal_transport_along_directions() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(9, 5)), random.normal(0.3, 2, (9, 5))
    directions = torch.randn(4, 5, generator=torch.Generator().manual_seed(2020)).numpy().astype(np.float64)
    costs = []
    for direction in directions:
        unit = direction / np.linalg.norm(direction)
        squared = ((a @ unit)[:, None] - b @ unit) ** 2
        costs.append(squared[linear_sum_assignment(squared)].mean())
    assert mind(a, b, directions=4).value == pytest.approx(15 * np.mean(costs), rel=1e-5)


def test_of_a_shift_is_three_times_its_square() -> None:
    # Along a unit direction u the distance is (u . shift)^2, whose mean over directions is |shift|^2 / F.
    a = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    shift = np.array([1, -2, 0, 0.5], np.float32)
    assert mind(a, a + shift, directions=4000).value == pytest.approx(3 * 5.25, rel=0.05)


def test_the_larger_side_is_cut_by_the_seed() -> None:
    random = np.random.default_rng(2)
    a, b = random.normal(size=(60, 4)), random.normal(1, 1, (40, 4))
    assert mind(a, b, directions=50) == mind(a, b, directions=50)
    assert mind(a, b, directions=50) != mind(a, b, directions=50, seed=1)
    assert mind(a, b, directions=50).value == pytest.approx(mind(a[:40], b, directions=50).value, rel=0.5)


def test_the_standard_error_is_the_spread_of_other_draws() -> None:
    random = np.random.default_rng(3)
    found = [mind(random.normal(size=(200, 3)), random.normal(1, 1, (200, 3)), directions=30) for _ in range(150)]
    assert np.mean([each.standard_error for each in found]) == pytest.approx(
        np.std([each.value for each in found]), rel=0.2
    )
