from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from t2i.metrics.intervals import Estimate, bootstrap_mean, interval_of_splits, interval_of_subsets
from t2i.metrics.kid import kernel_distance


def test_bootstrap_of_a_mean_is_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=300)
    ours = bootstrap_mean(values, replicas=4000)
    theirs = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert ours == bootstrap_mean(values, replicas=4000)
    assert ours != bootstrap_mean(values, replicas=4000, seed=1)


def test_truth_values_have_an_interval_of_their_share() -> None:
    found = bootstrap_mean(np.arange(400) % 4 == 0)
    assert found.low < 0.25 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * (0.25 * 0.75 / 400) ** 0.5, rel=0.1)


def test_splits_have_students_interval() -> None:
    scores = np.array([3.0, 5.0, 4.0])
    found = interval_of_splits(float(scores.mean()), float(scores.std()), 3)
    half = 4.302653 * scores.std(ddof=1) / 3**0.5  # t at 0.975 with 2 degrees of freedom
    assert (found.low, found.high) == pytest.approx((4 - half, 4 + half), rel=1e-6)


def test_an_estimates_interval_is_the_normal_one() -> None:
    found = Estimate(2.0, 0.5).interval()
    assert (found.low, found.high) == pytest.approx((2 - 0.979982, 2 + 0.979982), rel=1e-6)


def test_kernel_distances_of_other_images_vary_as_the_subsets_say() -> None:
    random = np.random.default_rng(2)
    errors, values = [], []
    for _ in range(60):
        kid = kernel_distance(random.normal(size=(120, 6)), random.normal(0.5, 1, (120, 6)), subsets=40)
        found = interval_of_subsets(kid.mean, kid.std, subsets=40, subset_size=kid.subset_size, n=120)
        errors.append((found.high - found.low) / (2 * 1.96))
        values.append(kid.mean)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.25)
