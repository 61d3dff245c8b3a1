"""Improved precision and recall: samples on each other's manifold (Kynkäänniemi et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

BLOCK = 1024


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision: generated images that look real. Recall: real images that could have been generated."""

    precision: float
    recall: float
    neighbours: int


def precision_recall(real: np.ndarray, generated: np.ndarray, *, neighbours: int = 3) -> PrecisionRecall:
    """Of features [n, D] and [m, D]; a manifold is the union of balls to each point's k-th nearest neighbour.

    Raises:
        ValueError: a side has no k neighbours.
    """
    if min(len(real), len(generated)) <= neighbours:
        raise ValueError(f"precision and recall need more than {neighbours} images on each side: evaluate more.")
    precision = _fraction_inside(generated, real, neighbours)
    recall = _fraction_inside(real, generated, neighbours)
    return PrecisionRecall(precision, recall, neighbours)


def _fraction_inside(points: np.ndarray, manifold: np.ndarray, neighbours: int) -> float:
    radii = np.concatenate(
        [np.partition(cdist(block, manifold), neighbours, axis=1)[:, neighbours] for block in _blocks(manifold)]
    )
    inside = [(cdist(block, manifold) <= radii).any(axis=1) for block in _blocks(points)]
    return float(np.concatenate(inside).mean())


def _blocks(features: np.ndarray) -> list[np.ndarray]:
    """Rows in float64 and in pieces, so that no distance matrix is wider than it must be."""
    return [features[start : start + BLOCK].astype(np.float64) for start in range(0, len(features), BLOCK)]
