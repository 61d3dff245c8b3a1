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
    shift = a.mean - b.mean
    cov_a, cov_b = a.covariance, b.covariance
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * trace_of_root_product(cov_a, cov_b))


def trace_of_root_product(cov_a: np.ndarray, cov_b: np.ndarray) -> float:
    """Return the trace of the matrix square root of A B, for symmetric positive semi-definite A and B [F, F]."""
    # A B itself is not symmetric. Its root needs a general solver (scipy's sqrtm), which is slow, returns complex
    # numbers and is unreliable where A or B lacks rank, as they do with fewer images than features.
    # Two symmetric eigenproblems avoid it. The trace is the sum of the roots of A B's eigenvalues, and with A = R R^T
    #     A B = R (R^T B)   has the same nonzero eigenvalues as   (R^T B) R,
    # which is symmetric and positive semi-definite. So the first eigh finds R, a root of A; the second the eigenvalues.
    eigenvalues, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(eigenvalues.clip(min=0))  # clip: rounding makes some zero eigenvalues negative
    return float(np.sqrt(np.linalg.eigvalsh(root.T @ cov_b @ root).clip(min=0)).sum())
