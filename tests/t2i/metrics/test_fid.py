from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from t2i.metrics.fid import frechet_distance, trace_of_root_product
from t2i.metrics.statistics import FeatureStatistics


def samples(seed: int, n: int, width: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(n, width)) @ random.normal(size=(width, width)) + random.normal(size=width)


def test_diagonal_gaussians_have_the_closed_form() -> None:
    # Hadamard columns: exactly zero mean and diagonal covariance, so the distance is sum of (shift^2 + (s1 - s2)^2).
    signs = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=np.float64)
    a, b = signs * [1.0, 2.0, 3.0], signs * [4.0, 2.0, 0.5] + [1.0, 0.0, -2.0]
    deviation = np.sqrt(4 / 3) * np.array([1 - 4, 0, 3 - 0.5])
    expected = 1 + 4 + (deviation**2).sum()
    assert frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b)) == pytest.approx(expected, rel=1e-12)


def test_trace_is_the_matrix_square_roots_where_both_have_full_rank() -> None:
    cov_a, cov_b = np.cov(samples(0, 200, 12).T), np.cov(samples(1, 200, 12).T)
    assert trace_of_root_product(cov_a, cov_b) == pytest.approx(np.trace(sqrtm(cov_a @ cov_b)).real, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(20, 30), (40, 10), (5, 400)])
def test_rank_deficient_trace_is_the_nuclear_norm(n: int, m: int) -> None:
    # tr((A B)^(1/2)) with A = X^T X, B = Y^T Y is the sum of the singular values of X Y^T.
    x, y = samples(2, n, 64), samples(3, m, 64)
    centred = (x - x.mean(0)) @ (y - y.mean(0)).T / np.sqrt((n - 1) * (m - 1))
    oracle = np.linalg.norm(centred, ord="nuc")
    assert trace_of_root_product(np.cov(x.T), np.cov(y.T)) == pytest.approx(oracle, rel=1e-5)


def test_distance_to_itself_is_zero_and_symmetric_to_others() -> None:
    a, b = FeatureStatistics.of(samples(4, 30, 64)), FeatureStatistics.of(samples(5, 30, 64))
    scale = float(np.trace(a.covariance))
    assert abs(frechet_distance(a, a)) < 1e-6 * scale
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)
