"""Retrieval between images and captions: whether each finds its own partner among all n."""

from __future__ import annotations

import numpy as np


def retrieval_ranks(queries: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rank of each query's own target, the one in the same row, by cosine: int64 [n], 1 is best.

    Unit-norm [n, E] x 2. Of equals the own target counts as the best.
    """
    similarity = queries @ targets.T
    return 1 + (similarity > similarity.diagonal()[:, None]).sum(axis=1)


def recall_at(ranks: np.ndarray, k: int) -> float:
    """Fraction of the ranks int64 [n] that are at most k; chance is k / n."""
    return float((ranks <= k).mean())
