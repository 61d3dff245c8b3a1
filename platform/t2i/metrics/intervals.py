"""How far a figure would move if other images had been drawn: intervals and standard errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

LEVEL = 0.95
"""Share of repetitions in which an interval should hold the value that it is for."""

REPLICAS = 1000
"""Resampled sets from which the interval of a mean is taken."""


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high`` at confidence ``level``, how it was found, and by how many ``replicas`` (0: by none)."""

    low: float
    high: float
    level: float
    method: str
    replicas: int = 0


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error."""

    value: float
    standard_error: float

    def interval(self, level: float = LEVEL) -> Interval:
        """Return the interval of a normal distribution around the value."""
        return around(self.value, norm.ppf((1 + level) / 2) * self.standard_error, level, "normal")


def around(value: float, half: float, level: float, method: str) -> Interval:
    """Return the interval that reaches ``half`` to both sides of ``value``."""
    return Interval(float(value - half), float(value + half), level, method)


def resampled_rows(n: int, seed: int, replica: int) -> np.ndarray:
    """Return n row numbers drawn with replacement, int64 [n]: a function of ``seed`` and ``replica`` alone."""
    return np.random.default_rng([seed, replica]).integers(0, n, n)


def bootstrap_mean(values: np.ndarray, *, seed: int = 2020, replicas: int = REPLICAS, level: float = LEVEL) -> Interval:
    """Return the percentile bootstrap's interval of the mean of ``values`` [n] (Efron 1979); truth values count 0, 1.

    It is right for figures that are means over images or captions: CLIP score, R-precision, recall at k, precision.
    """
    numbers = np.asarray(values, np.float64)
    means = [numbers[resampled_rows(len(numbers), seed, replica)].mean() for replica in range(replicas)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, "bootstrap", replicas)


def interval_of_splits(mean: float, std: float, splits: int, level: float = LEVEL) -> Interval:
    """Return Student's interval of the mean over ``splits`` >= 2 disjoint parts; ``std`` is numpy's, over n.

    It is the interval of what parts of that size score, not of the score of all images as one part.
    """
    error = std / (splits - 1) ** 0.5  # std over n - 1, divided by the root of n
    return around(mean, t.ppf((1 + level) / 2, splits - 1) * error, level, f"Student's t over {splits} splits")


def interval_of_subsets(
    mean: float, std: float, *, subsets: int, subset_size: int, n: int, level: float = LEVEL
) -> Interval:
    """Return the interval of a mean over overlapping subsets of ``n`` images (Politis and Romano 1994).

    ``n`` is the smaller side's. Subsets without replacement of size s < n vary with variance V (1/s - 1/n), and the
    figure of all n images with V / n: so the subsets' variance is multiplied by s / (n - s). What the finite number of
    subsets adds comes on top. Where both sides have one distribution the interval is wider than it needs to be.
    """
    variance = std**2 * (subset_size / (n - subset_size) + 1 / subsets)
    half = norm.ppf((1 + level) / 2) * variance**0.5
    return around(mean, half, level, f"subsampling by {subsets} subsets of {subset_size}")
