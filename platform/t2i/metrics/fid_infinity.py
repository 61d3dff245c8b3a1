"""FID-infinity: the Fréchet distance that infinitely many generated images would have (Chong and Forsyth 2020)."""

from __future__ import annotations

import numpy as np
from scipy.stats import linregress

from t2i.metrics.fid import FrechetReference
from t2i.metrics.intervals import Estimate
from t2i.metrics.statistics import FeatureStatistics

SMALLEST = 5000
"""Images of the smallest subset, as in the paper's code; half of all where there are fewer than twice as many."""


def fid_infinity(features: np.ndarray, reference: FeatureStatistics, *, points: int = 15, seed: int = 2020) -> Estimate:
    """Return the distance of features [n, F] extrapolated to 1/n = 0, by a line through ``points`` subset sizes.

    Each size, from :data:`SMALLEST` to n at equal steps, is a new draw of rows without replacement. The bias that few
    *reference* images cause stays. The standard error is the fitted intercept's: it says how well the points lie on a
    line, not how the value would move with other images. Each point costs a covariance and one eigenproblem.

    Raises:
        ValueError: there are fewer than 2 ``points`` + 2 images.
    """
    n = len(features)
    if n < 2 * points + 2:
        raise ValueError(f"FID-infinity by {points} points has {n} images: evaluate at least {2 * points + 2}.")
    sizes = np.linspace(min(SMALLEST, n // 2), n, points).astype(int)
    random, fixed = np.random.RandomState(seed), FrechetReference(reference)
    drawn = (features[np.sort(random.choice(n, size, replace=False))] for size in sizes)
    distances = [fixed.distance(FeatureStatistics.of(subset)) for subset in drawn]
    line = linregress(1 / sizes, distances)
    return Estimate(float(line.intercept), float(line.intercept_stderr))
