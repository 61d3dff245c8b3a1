"""Kernel distance: the unbiased squared MMD under a cubic polynomial kernel (Bińkowski et al. 2018).

Unlike the Fréchet distance's, its expectation does not depend on the number of images, so the report puts it first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class KID:
    """Mean and standard deviation of the distance over ``subsets`` draws of ``subset_size`` images from each side."""

    mean: float
    std: float
    subsets: int
    subset_size: int
    seed: int


def kernel_distance(
    a: np.ndarray, b: np.ndarray, *, subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> KID:
    """Return the KID between features [n, F] and [m, F].

    If a side has fewer than ``2 * subset_size`` images, subsets have half as many images as the smaller side.

    Raises:
        ValueError: a side has fewer than 4 images.
    """
    # Subsets are drawn without replacement. Were one as large as its side, every draw would be the same images and
    # the standard deviation over draws 0, whatever the sampling error. At half the side they still differ.
    size = min(subset_size, len(a) // 2, len(b) // 2)
    if size < 2:
        raise ValueError(f"KID needs at least 4 images on each side, there are {len(a)} and {len(b)}: evaluate more.")
    # RandomState and the alternation (a, b, a, b, ...) are torch-fidelity's: same features and seed, same number.
    random = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        subset_a = a[random.choice(len(a), size, replace=False)]
        subset_b = b[random.choice(len(b), size, replace=False)]
        values.append(squared_mmd(subset_a, subset_b))
    return KID(float(np.mean(values)), float(np.std(values)), subsets, size, seed)


def squared_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Return the unbiased squared MMD of [n, F] and [m, F] under the kernel (x . y / F + 1)^3; it can be negative.

    Products are taken in the features' own precision, as torch-fidelity does, and summed in float64. With float32
    features that changes the distance by less than 1e-9, and halves the time.
    """
    # Unbiased because pairs of an image with itself, the diagonals, are left out of the means within a side.
    return _mean_off_diagonal(_kernel(a, a)) + _mean_off_diagonal(_kernel(b, b)) - 2 * float(_kernel(a, b).mean())


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    values: np.ndarray = (a @ b.T).astype(np.float64)  # of a with itself numpy computes one triangle only
    values /= a.shape[1]
    values += 1
    values *= values * values  # a power by a float takes ten times as long
    return values


def _mean_off_diagonal(kernel: np.ndarray) -> float:
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))
