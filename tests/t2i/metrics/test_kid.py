from __future__ import annotations

import numpy as np
import pytest

from t2i.metrics.kid import kernel_distance, squared_mmd


def loops(a: np.ndarray, b: np.ndarray) -> float:
    """The definition, pair by pair."""

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / a.shape[1] + 1) ** 3

    within_a = np.mean([kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
    within_b = np.mean([kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
    return float(within_a + within_b - 2 * np.mean([kernel(x, y) for x in a for y in b]))


def test_squared_mmd_is_the_definition() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(7, 4)), random.normal(0.5, 1, size=(9, 4))
    assert squared_mmd(a, b) == pytest.approx(loops(a, b), rel=1e-12)


def test_is_unbiased_at_small_n_and_grows_with_a_shift() -> None:
    random = np.random.default_rng(1)
    same = np.mean([squared_mmd(*random.normal(size=(2, 20, 8))) for _ in range(400)])
    shifted = squared_mmd(random.normal(size=(200, 8)), random.normal(0.7, 1, size=(200, 8)))
    assert abs(same) < 0.05 < shifted


def test_small_samples_use_half_of_themselves_and_the_seed_decides() -> None:
    features = np.random.default_rng(2).normal(size=(2, 30, 8))
    first = kernel_distance(*features, subsets=10, seed=1)
    assert (first.subset_size, first.subsets) == (15, 10)
    assert first.std > 0
    assert first == kernel_distance(*features, subsets=10, seed=1)
    assert first != kernel_distance(*features, subsets=10, seed=2)


def test_refuses_what_has_no_pairs() -> None:
    with pytest.raises(ValueError, match="at least 4 images"):
        kernel_distance(np.ones((3, 2)), np.ones((9, 2)))
