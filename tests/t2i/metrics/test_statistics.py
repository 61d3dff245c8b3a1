from __future__ import annotations

import numpy as np
import pytest

from t2i.metrics import statistics
from t2i.metrics.statistics import FeatureStatistics, merge_statistics


def test_merging_uneven_batches_gives_the_covariance_of_the_whole_sample() -> None:
    features = np.random.default_rng(0).normal(1000.0, 1.0, size=(301, 17)).astype(np.float32)
    parts = np.split(features, [1, 2, 50, 300])
    merged = merge_statistics(map(FeatureStatistics.of, parts))
    assert merged.count == 301
    np.testing.assert_allclose(merged.mean, features.mean(axis=0, dtype=np.float64), rtol=1e-14)
    np.testing.assert_allclose(merged.covariance, np.cov(features.astype(np.float64).T), rtol=1e-10)


@pytest.mark.parametrize("k", [2, 7, 64])
def test_k_way_permuted_and_one_shot_merges_agree(k: int) -> None:
    features = np.random.default_rng(1).normal(3.0, 2.0, size=(640, 9))
    parts = [FeatureStatistics.of(part) for part in np.array_split(features, k)]
    permuted = merge_statistics([parts[index] for index in np.random.default_rng(2).permutation(k)])
    tree = merge_statistics([merge_statistics(parts[: k // 2]), merge_statistics(parts[k // 2 :])])
    for merged in (merge_statistics(parts), permuted, tree):
        whole = FeatureStatistics.of(features)
        np.testing.assert_allclose(merged.m2, whole.m2, rtol=1e-12, atol=1e-12 * whole.m2.max())
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)


def test_blocks_of_one_array_merge_to_its_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(3).normal(3.0, 2.0, size=(100, 4))
    monkeypatch.setattr(statistics, "STATISTICS_BLOCK", 30)
    merged = FeatureStatistics.of(features)
    np.testing.assert_allclose(merged.covariance, np.cov(features.T), rtol=1e-12)
    assert merged.count == 100


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least 2 samples"):
        _ = FeatureStatistics.of(np.ones((1, 3))).covariance


def test_nothing_cannot_be_summarised() -> None:
    with pytest.raises(ValueError, match="no features"):
        merge_statistics([])
