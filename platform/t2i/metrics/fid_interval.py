"""Interval of a Fréchet distance under other draws of the generated images; the reference is taken as given."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from t2i.metrics.blocks import row_blocks
from t2i.metrics.fid import FrechetReference, sum_of_roots
from t2i.metrics.intervals import LEVEL, Interval, around, resampled_rows
from t2i.metrics.statistics import FeatureStatistics

FID_REPLICAS = 200
"""Bootstrap replicas of a Fréchet distance."""

DELTA_FROM = 2
"""Images per feature from which the delta method is used, which needs a covariance of full rank."""


def fid_interval(
    features: np.ndarray,
    reference: FeatureStatistics,
    *,
    replicas: int = FID_REPLICAS,
    seed: int = 2020,
    level: float = LEVEL,
) -> Interval:
    """Return the interval of the Fréchet distance of generated features [n, F] from ``reference``.

    With fewer than :data:`DELTA_FROM` images per feature it is the bootstrap's: each replica is an eigenproblem of its
    0.63 n distinct images. With more it is the delta method's: one pass over the features, as dear as a covariance.
    Either is the spread around the distance *of n images*, whose bias it keeps.
    """
    fixed = FrechetReference(reference)
    value = fixed.distance(FeatureStatistics.of(features))
    if len(features) >= DELTA_FROM * features.shape[1]:
        half = norm.ppf((1 + level) / 2) * _standard_error(features, fixed)
        return around(value, half, level, "delta method")
    drawn = fid_replicas(features, fixed, replicas=replicas, seed=seed)
    # A replica repeats images, so that it looks like a smaller and more biased sample: all may lie above the value.
    # Their spread is right, their place is not.
    low, high = value + np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - drawn.mean()
    return Interval(float(low), float(high), level, "bootstrap, centred", replicas)


def fid_replicas(features: np.ndarray, reference: FrechetReference, *, replicas: int, seed: int) -> np.ndarray:
    """Return the Fréchet distances of resampled features [n, F] from ``reference``: float64 [replicas].

    Replica r consists of the rows that :func:`resampled_rows` draws. Memory is three matrices [n, n].
    """
    # Covariances appear in the distance only through inner products of images, which resampling does not change.
    # With the rows of Y = X - m_ref, R R^T = C_ref, and a replica's weights w (how often each image is drawn), p = w/n,
    #     mean shift      |Y^T p|^2          = p^T K p                              K = Y Y^T
    #     tr C            sum of w (K_ii)/(n-1) - n/(n-1) p^T K p
    #     (C_ref C)^(1/2) has the eigenvalues of the root of D (I - 1 p^T) G (I - p 1^T) D / (n-1),
    #                     G = (Y R)(Y R)^T,  D = diag(sqrt(w))
    # So K and G are computed once. Images with w = 0 drop out, which leaves 0.63 n rows and a quarter of the work.
    centred = features.astype(np.float64) - reference.mean
    inner = centred @ centred.T
    projected = centred @ reference.root
    crossed = projected @ projected.T
    n = len(features)
    counts = (np.bincount(resampled_rows(n, seed, replica), minlength=n) for replica in range(replicas))
    return np.array([_replica(inner, crossed, weights, reference.variance) for weights in counts])


def _replica(inner: np.ndarray, crossed: np.ndarray, weights: np.ndarray, reference_variance: float) -> float:
    """Return one replica's distance, from K and G [n, n] and the ``weights`` int64 [n], which sum to n."""
    n = len(weights)
    drawn = np.flatnonzero(weights)
    w = weights[drawn]
    p = w / n
    shift = p @ inner[np.ix_(drawn, drawn)] @ p
    variance = (w @ inner.diagonal()[drawn] - n * shift) / (n - 1)
    return float(shift + variance + reference_variance - 2 * sum_of_roots(_centred(crossed, drawn, w)))


def _centred(crossed: np.ndarray, drawn: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return D (I - 1 p^T) G (I - p 1^T) D / (n - 1) of the ``drawn`` images: float64 [drawn, drawn]."""
    n, p, root = w.sum(), w / w.sum(), np.sqrt(w)
    matrix = crossed[np.ix_(drawn, drawn)]
    mean = matrix @ p
    matrix -= mean[:, None] + mean - p @ mean
    matrix *= root[:, None] * root / (n - 1)
    return matrix


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
