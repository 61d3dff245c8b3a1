"""Improved precision and recall of generated images (Kynkäänniemi et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

BLOCK = 1024
"""Rows of a distance matrix that are in memory at once."""


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision: the share of generated images that look real. Recall: of real images that could be generated."""

    precision: float
    recall: float
    neighbours: int


def precision_recall(real: np.ndarray, generated: np.ndarray, *, neighbours: int = 3) -> PrecisionRecall:
    """Return the precision and recall of generated features [m, F] against real ones [n, F].

    An image counts as real if it lies within the manifold of the real ones: in at least one of the balls around them
    that reach to their ``neighbours``-th nearest neighbour. Recall has the sides exchanged.

    Raises:
        ValueError: a side has no more than ``neighbours`` images.
    """
    if min(len(real), len(generated)) <= neighbours:
        raise ValueError(f"precision and recall need more than {neighbours} images on each side: evaluate more.")
    precision = _fraction_inside(generated, real, neighbours)
    recall = _fraction_inside(real, generated, neighbours)
    return PrecisionRecall(precision, recall, neighbours)


def _fraction_inside(points: np.ndarray, manifold: np.ndarray, neighbours: int) -> float:
    """Return the fraction of ``points`` [n, F] that lie in a ball around one of the points of ``manifold`` [m, F]."""
    # Every point of the manifold has a radius of its own: small where the manifold is dense, large where it is sparse.
    #
    #     (. . .)    (   .   )      balls of 3 close points and of a lonely one
    #
    # Sorted distances from a point to the manifold begin with 0, to itself; so the k-th neighbour is at index k,
    # not k - 1. partition puts the right value at that index without sorting the rest.
    radii = np.concatenate(
        [np.partition(cdist(block, manifold), neighbours, axis=1)[:, neighbours] for block in _blocks(manifold)]
    )  # [m]
    # Columns are the manifold's points, so each distance is compared with the radius of that point's ball.
    inside = [(cdist(block, manifold) <= radii).any(axis=1) for block in _blocks(points)]
    return float(np.concatenate(inside).mean())


def _blocks(features: np.ndarray) -> list[np.ndarray]:
    """Return the rows in float64, in blocks of at most :data:`BLOCK`: no whole distance matrix need be in memory."""
    return [features[start : start + BLOCK].astype(np.float64) for start in range(0, len(features), BLOCK)]
