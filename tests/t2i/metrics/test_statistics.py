from __future__ import annotations

import numpy as np
import pytest

from t2i.metrics.statistics import FeatureStatistics, merge_statistics


def test_merging_uneven_batches_gives_the_covariance_of_the_whole_sample() -> None:
    features = np.random.default_rng(0).normal(1000.0, 1.0, size=(301, 17)).astype(np.float32)
    parts = np.split(features, [1, 2, 50, 300])
    merged = merge_statistics(map(FeatureStatistics.of, parts))
    assert merged.count == 301
    np.testing.assert_allclose(merged.mean, features.mean(axis=0, dtype=np.float64), rtol=1e-14)
    np.testing.assert_allclose(merged.covariance, np.cov(features.astype(np.float64).T), rtol=1e-10)


def test_order_of_merging_does_not_matter() -> None:
    parts = [FeatureStatistics.of(p) for p in np.random.default_rng(1).normal(size=(4, 9, 5))]
    left = parts[0].merge(parts[1]).merge(parts[2]).merge(parts[3])
    right = parts[3].merge(parts[2]).merge(parts[0].merge(parts[1]))
    np.testing.assert_allclose(left.m2, right.m2, rtol=1e-12)


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least 2 samples"):
        _ = FeatureStatistics.of(np.ones((1, 3))).covariance


def test_nothing_cannot_be_summarised() -> None:
    with pytest.raises(ValueError, match="no features"):
        merge_statistics([])
