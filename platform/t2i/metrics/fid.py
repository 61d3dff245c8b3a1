"""Fréchet distance between two Gaussians fitted to features (Heusel et al. 2017).

Called FID only where the features are the FID Inception's; see :mod:`t2i.metrics.features` for the name.
"""

from __future__ import annotations

import numpy as np

from t2i.metrics.statistics import FeatureStatistics


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """|mean difference|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a C_b)^(1/2)).

    The estimate is biased upwards at small n: always state n of both sides beside it.
    """
    shift = a.mean - b.mean
    cov_a, cov_b = a.covariance, b.covariance
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * trace_of_root_product(cov_a, cov_b))


def trace_of_root_product(cov_a: np.ndarray, cov_b: np.ndarray) -> float:
    """tr((A B)^(1/2)) of two positive semi-definite matrices [D, D].

    With A = R R^T it is the sum of root eigenvalues of the symmetric R^T B R: real by construction, right
    where A or B lacks rank, and faster than the general matrix root.
    """
    eigenvalues, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(eigenvalues.clip(min=0))
    return float(np.sqrt(np.linalg.eigvalsh(root.T @ cov_b @ root).clip(min=0)).sum())
