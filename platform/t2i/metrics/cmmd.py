"""CMMD: the squared MMD of CLIP features under a Gaussian kernel (Jayasumana et al. 2024)."""

from __future__ import annotations

import numpy as np

from t2i.metrics.blocks import row_blocks
from t2i.metrics.intervals import Estimate

SIGMA = 10.0
"""Width of the kernel exp(-|x - y|^2 / (2 sigma^2)), as in the paper."""

SCALE = 1000.0
"""What the paper multiplies the squared MMD by, for readable numbers."""


def cmmd(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Return 1000 times the squared MMD of unit-norm CLIP features [n, F] and [m, F], and its standard error.

    The paper's code keeps pairs of an image with itself; so does this, and the distance of a set from itself is 0. The
    standard error is the delta method's; where both sides have one distribution it is too small to mean anything.
    """
    (within_a, _), (within_b, _), (a_to_b, b_to_a) = _mean_kernels(a, a), _mean_kernels(b, b), _mean_kernels(a, b)
    squared = within_a.mean() + within_b.mean() - 2 * a_to_b.mean()
    # An image of a takes part in 2/n of the pairs within a and in 1/n of those with b, both counted twice in the sum.
    variance = (within_a - a_to_b).var() / len(a) + (within_b - b_to_a).var() / len(b)
    return Estimate(float(SCALE * squared), float(SCALE * 2 * variance**0.5))


def _mean_kernels(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean kernel of each row of a [n, F] with all of b [m, F], float64 [n], and of b with a, [m]."""
    of_a, of_b = np.zeros(len(a)), np.zeros(len(b))
    for rows in row_blocks(len(a)):
        for columns in row_blocks(len(b)):
            kernel = _kernel(a[rows].astype(np.float64), b[columns].astype(np.float64))
            of_a[rows] += kernel.sum(axis=1)
            of_b[columns] += kernel.sum(axis=0)
    return of_a / len(b), of_b / len(a)


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    squared = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * (x @ y.T)
    values: np.ndarray = np.exp(squared / (-2 * SIGMA**2))
    return values
