"""Retrieval between images and captions: whether each finds its own partner among all n."""

from __future__ import annotations

import numpy as np


def retrieval_ranks(queries: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the rank of each query's own target, that in its row, among all targets: int64 [n], 1 is best.

    Takes unit-norm features [n, F] and [n, F] and ranks by cosine. Targets with the same cosine as the query's own
    do not worsen its rank.
    """
    similarity = queries @ targets.T
    ranks: np.ndarray = 1 + (similarity > similarity.diagonal()[:, None]).sum(axis=1)
    return ranks


def recall_at(ranks: np.ndarray, k: int) -> float:
    """Return the fraction of ``ranks`` int64 [n] that are at most k; guessing gives k / n."""
    return float((ranks <= k).mean())
