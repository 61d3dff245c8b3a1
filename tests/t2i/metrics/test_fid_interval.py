from __future__ import annotations

import numpy as np
import pytest

from t2i.metrics.fid import FrechetReference, frechet_distance
from t2i.metrics.fid_interval import fid_interval, fid_replicas, half_sample
from t2i.metrics.statistics import FeatureStatistics

WIDTH = 12


def draw(random: np.random.Generator, n: int) -> np.ndarray:
    return np.abs(random.normal(size=(n, WIDTH))) * np.linspace(2, 0.1, WIDTH) + 0.1


@pytest.fixture(scope="module")
def reference() -> FeatureStatistics:
    return FeatureStatistics.of(draw(np.random.default_rng(0), 500))


@pytest.mark.parametrize("n", [8, 40])
def test_replicas_are_the_distances_of_their_rows_seed_by_seed(n: int, reference: FeatureStatistics) -> None:
    features = draw(np.random.default_rng(1), n).astype(np.float32)
    rows = [half_sample(n, 5, replica) for replica in range(6)]
    expected = [frechet_distance(FeatureStatistics.of(features[each]), reference) for each in rows]
    replicas = fid_replicas(features, FrechetReference(reference), replicas=6, seed=5)
    np.testing.assert_allclose(replicas, expected, rtol=1e-6)
    assert len(set(replicas)) == 6


@pytest.mark.parametrize(("n", "method"), [(8, "half samples"), (20, "half samples"), (400, "delta method")])
def test_widths_are_the_spread_of_other_draws(n: int, method: str, reference: FeatureStatistics) -> None:
    random = np.random.default_rng(2)
    draws = [frechet_distance(FeatureStatistics.of(draw(random, n)), reference) for _ in range(300)]
    found = [fid_interval(draw(random, n), reference, replicas=100) for _ in range(40)]
    assert {each.method for each in found} == {method}
    width = np.mean([each.high - each.low for each in found])
    truth = np.subtract(*np.quantile(draws, [0.975, 0.025]))
    assert 0.9 * truth < width < 1.6 * truth  # at few images it is known to be too wide, never too narrow
    held = np.mean([each.low <= np.mean(draws) <= each.high for each in found])
    assert held >= 0.85


def test_the_interval_is_a_function_of_its_seed(reference: FeatureStatistics) -> None:
    features = draw(np.random.default_rng(3), 9)
    assert fid_interval(features, reference, replicas=9) == fid_interval(features, reference, replicas=9)
    assert fid_interval(features, reference, replicas=9) != fid_interval(features, reference, replicas=9, seed=1)
