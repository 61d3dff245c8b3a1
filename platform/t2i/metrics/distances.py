"""Which points lie within which radius, by matrix products, and exactly where a product's rounding could decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from t2i.metrics.blocks import BLOCK, row_blocks


@dataclass(frozen=True)
class Points:
    """Features float64 [n, F] with their squared norms [n]."""

    features: np.ndarray
    norms: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Points:
        """Return the points of features [n, F]."""
        features = features.astype(np.float64)
        return cls(features, np.einsum("nf,nf->n", features, features))

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice) -> Points:
        return Points(self.features[rows], self.norms[rows])


def squared_distances(a: Points, b: Points) -> np.ndarray:
    """Return |x|^2 + |y|^2 - 2 x . y for all x of a and y of b: float64 [n, m], off by up to :func:`rounding`."""
    distances: np.ndarray = a.features @ b.features.T
    distances *= -2
    distances += a.norms[:, None]
    distances += b.norms
    return distances


def rounding(a: Points, b: Points) -> float:
    """Return a bound of the error of :func:`squared_distances`."""
    width = a.features.shape[1]
    return float(2 * (width + 4) * np.finfo(np.float64).eps * (a.norms.max() + b.norms.max()))


def neighbour_radii(points: Points, neighbours: Sequence[int]) -> np.ndarray:
    """Return each point's squared distances to its k-th nearest other point, for every k of ``neighbours``: [k, n].

    They are summed from differences, as :func:`within` does at ties: copies of a point are at 0, equal pairs at equal
    distances.
    """
    # A point's distances to all begin with 0, to itself; so the k-th neighbour is at index k, not k - 1.
    # partition puts the right ones in front without sorting the rest.
    furthest = max(neighbours) + 1
    radii = np.empty((len(neighbours), len(points)))
    for rows in row_blocks(len(points)):
        block = points[rows]
        nearest = np.argpartition(squared_distances(block, points), furthest - 1, axis=1)[:, :furthest]
        exact = np.stack([_exact(block.features, points.features[column]) for column in nearest.T], axis=1)
        radii[:, rows] = np.sort(exact, axis=1)[:, list(neighbours)].T
    return radii


def within(distances: np.ndarray, a: Points, b: Points, radii: np.ndarray) -> np.ndarray:
    """Return whether each pair's distance is at most the radius: bool [n, m].

    Takes :func:`squared_distances` of a and b, and squared ``radii`` of shape [m] or [n, 1]. Pairs that are closer to
    the radius than rounding are decided by exact distances, so that ties count as inside.
    """
    inside: np.ndarray = distances <= radii
    rows, columns = np.nonzero(np.abs(distances - radii) <= rounding(a, b))
    radii = np.broadcast_to(radii, distances.shape)
    for part in row_blocks(len(rows), BLOCK):
        pairs = rows[part], columns[part]
        inside[pairs] = _exact(a.features[pairs[0]], b.features[pairs[1]]) <= radii[pairs]
    return inside


def _exact(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the squared distances [n] of x and y [n, F], row by row."""
    squared: np.ndarray = ((x - y) ** 2).sum(axis=1)
    return squared
