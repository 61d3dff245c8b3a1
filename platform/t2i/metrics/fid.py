"""Fréchet distance between two Gaussians fitted to features (Heusel et al. 2017).

It is called FID only if the features are the FID Inception's: see
:meth:`t2i.metrics.features.ExtractorProtocol.metric_name`.
"""

from __future__ import annotations

import numpy as np

from t2i.metrics.statistics import FeatureStatistics


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Return |m_a - m_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a C_b)^(1/2)), the distance of means m and covariances C.

    Few images bias it upwards, so report it with the number of images on both sides.
    """
    return FrechetReference(a).distance(b)


class FrechetReference:
    """One side of many Fréchet distances, with the work that they share done once.

    ``root`` [F, F] is R with R R^T = the covariance.
    """

    def __init__(self, statistics: FeatureStatistics) -> None:
        self.mean = statistics.mean
        covariance = statistics.covariance
        self.variance = float(np.trace(covariance))
        self.root = root_of(covariance)

    def distance(self, other: FeatureStatistics) -> float:
        """Return the Fréchet distance to ``other``: one symmetric eigenproblem."""
        shift, covariance = other.mean - self.mean, other.covariance
        shared = trace_by_root(self.root, covariance)
        return float(shift @ shift + np.trace(covariance) + self.variance - 2 * shared)


def trace_of_root_product(cov_a: np.ndarray, cov_b: np.ndarray) -> float:
    """Return the trace of the matrix square root of A B, for symmetric positive semi-definite A and B [F, F]."""
    # A B itself is not symmetric. Its root needs a general solver (scipy's sqrtm), which is slow, returns complex
    # numbers and is unreliable where A or B lacks rank, as they do with fewer images than features.
    # The trace is also the sum of the roots of A B's eigenvalues, and with A = R R^T
    #     A B = R (R^T B)   has the same nonzero eigenvalues as   (R^T B) R,
    # which is symmetric and positive semi-definite: a root of A and a symmetric eigenproblem are enough.
    return trace_by_root(root_of(cov_a), cov_b)


def root_of(covariance: np.ndarray) -> np.ndarray:
    """Return R [F, F] with R R^T = a symmetric positive semi-definite matrix [F, F]."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:  # not of full rank, as with fewer images than features
        eigenvalues, vectors = np.linalg.eigh(covariance)
        root: np.ndarray = vectors * np.sqrt(eigenvalues.clip(min=0))  # clip: rounding makes some zeros negative
        return root


def trace_by_root(root: np.ndarray, covariance: np.ndarray) -> float:
    """Return the trace of (R R^T B)^(1/2) for a root R [F, F] and a covariance B [F, F]."""
    return sum_of_roots(root.T @ covariance @ root)


def sum_of_roots(matrix: np.ndarray) -> float:
    """Return the sum of the square roots of a symmetric positive semi-definite matrix's eigenvalues."""
    return float(np.sqrt(np.linalg.eigvalsh(matrix).clip(min=0)).sum())
