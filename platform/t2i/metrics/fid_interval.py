"""Interval of a Fréchet distance under other draws of the generated images; the reference is taken as given."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from t2i.metrics.blocks import row_blocks
from t2i.metrics.fid import FrechetReference, sum_of_roots
from t2i.metrics.intervals import LEVEL, Interval, around
from t2i.metrics.statistics import FeatureStatistics

FID_REPLICAS = 200
"""Half samples from which the interval of a Fréchet distance is taken."""

DELTA_FROM = 2
"""Images per feature from which the delta method takes their place."""


def fid_interval(
    features: np.ndarray,
    reference: FeatureStatistics,
    *,
    replicas: int = FID_REPLICAS,
    seed: int = 2020,
    level: float = LEVEL,
) -> Interval:
    """Return the interval of the Fréchet distance of generated features [n, F] from ``reference``.

    With fewer than :data:`DELTA_FROM` images per feature it is the spread of half samples, each an eigenproblem of n/2
    rows. With more it is the delta method's: one pass over the features and one eigenproblem, together about as dear
    as the distance itself. Either keeps the bias that n images have, which is larger than the interval for small n.
    """
    fixed = FrechetReference(reference)
    value = fixed.distance(FeatureStatistics.of(features))
    if len(features) >= DELTA_FROM * features.shape[1]:
        half = norm.ppf((1 + level) / 2) * _standard_error(features, fixed)
        return around(value, half, level, "delta method")
    # Half of n images without replacement vary around the distance of all as the distance of n images varies around
    # its mean: V (1/(n/2) - 1/n) = V/n. The usual bootstrap, with replacement, repeats images, which at n < F looks
    # like a smaller sample: its spread was measured to be twice the true one. Halves have a larger bias too; it is
    # the same for all of them, so their mean is taken off.
    drawn = fid_replicas(features, fixed, replicas=replicas, seed=seed)
    low, high = value + np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - drawn.mean()
    return Interval(float(low), float(high), level, "half samples", replicas)


def half_sample(n: int, seed: int, replica: int) -> np.ndarray:
    """Return n // 2 of n row numbers without replacement, sorted: a function of ``seed`` and ``replica`` alone."""
    return np.sort(np.random.default_rng([seed, replica]).choice(n, n // 2, replace=False))


def fid_replicas(features: np.ndarray, reference: FrechetReference, *, replicas: int, seed: int) -> np.ndarray:
    """Return the Fréchet distances of half samples of features [n, F] from ``reference``: float64 [replicas].

    Replica r consists of the rows that :func:`half_sample` draws. Memory is four matrices [n, n].
    """
    # Covariances enter the distance only through inner products of images, which drawing rows does not change.
    # With the rows of Y = X - m_ref, R R^T = C_ref, s rows drawn, and J = I - 1 1^T / s, which takes their mean off,
    #     mean shift       the mean of all entries of K = Y Y^T
    #     tr C             tr(J K J) / (s - 1)
    #     tr (C_ref C)^(1/2) is the sum of the roots of the eigenvalues of J G J / (s - 1),  G = (Y R)(Y R)^T.
    # So K and G are computed once, and a replica takes its rows and columns of them: s of them instead of F.
    centred = features.astype(np.float64) - reference.mean
    inner = centred @ centred.T
    projected = centred @ reference.root
    crossed = projected @ projected.T
    rows = (half_sample(len(features), seed, replica) for replica in range(replicas))
    return np.array([_distance(inner[np.ix_(r, r)], crossed[np.ix_(r, r)], reference.variance) for r in rows])


def _distance(inner: np.ndarray, crossed: np.ndarray, reference_variance: float) -> float:
    """Return the distance of s images from their K and G, both [s, s]."""
    s = len(inner)
    shift = inner.mean()
    variance = (np.trace(inner) - s * shift) / (s - 1)
    mean = crossed.mean(axis=0)
    crossed = (crossed - mean - mean[:, None] + mean.mean()) / (s - 1)
    return float(shift + variance + reference_variance - 2 * sum_of_roots(crossed))


def _standard_error(features: np.ndarray, reference: FrechetReference) -> float:
    """Return the distance's standard error by the delta method: the root of the variance of images' influences, / n."""
    # With M = R^T C R the derivative of tr M^(1/2) in the direction dC is tr(M^(-1/2) R^T dC R) / 2. An image x changes
    # the mean by (x - m)/n and C by ((x - m)(x - m)^T - C)/n, so its influence on the distance is, up to a constant,
    #     2 (m - m_ref) . (x - m) + |x - m|^2 - |M^(-1/4) R^T (x - m)|^2.
    statistics = FeatureStatistics.of(features)
    eigenvalues, vectors = np.linalg.eigh(reference.root.T @ statistics.covariance @ reference.root)
    kept = eigenvalues > eigenvalues[-1] * len(eigenvalues) * np.finfo(np.float64).eps
    whitening = reference.root @ (vectors[:, kept] * eigenvalues[kept] ** -0.25)
    influences = []
    for rows in row_blocks(len(features)):
        deviations = features[rows] - statistics.mean
        linear = 2 * deviations @ (statistics.mean - reference.mean)
        influences.append(linear + (deviations**2).sum(axis=1) - ((deviations @ whitening) ** 2).sum(axis=1))
    return float(np.concatenate(influences).std(ddof=1) / len(features) ** 0.5)
