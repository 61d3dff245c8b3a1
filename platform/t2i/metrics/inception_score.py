"""Inception score: exp of the mean KL divergence of p(class | image) from p(class) (Salimans et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import log_softmax, xlogy

from t2i.metrics.blocks import row_blocks


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation of the scores of ``splits`` equal parts of the images, shuffled with ``seed``.

    Without a seed the parts are the images in their own order.
    """

    mean: float
    std: float
    splits: int
    seed: int | None


def inception_score(logits: np.ndarray, *, splits: int = 10, seed: int | None = 2020) -> InceptionScore:
    """Return the inception score of class logits [n, classes].

    It depends on the number of splits and on the images' order, so the result names both; shuffle and seed are
    torch-fidelity's, and None leaves the order as it is, as the score's first code did. Computed in float64: in float32
    logits with a standard deviation of about 24 already give NaN.

    Raises:
        ValueError: there are fewer images than splits.
    """
    n = len(logits)
    if n < splits:
        raise ValueError(f"the inception score has {n} images for {splits} splits: use fewer splits.")
    order = np.arange(n) if seed is None else np.random.RandomState(seed).permutation(n)
    bounds = [index * n // splits for index in range(splits + 1)]
    scores = [_score(logits, order[start:stop]) for start, stop in pairwise(bounds)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), splits, seed)


def _score(logits: np.ndarray, rows: np.ndarray) -> float:
    """Return exp(mean KL) of some rows, read block by block."""
    # The mean over images of sum p (log p - log q) is the mean of sum p log p minus sum q log q, as q is the mean of p.
    marginal, negative_entropy = np.zeros(logits.shape[1]), 0.0
    for block in row_blocks(len(rows)):
        log_p = log_softmax(logits[rows[block]].astype(np.float64), axis=1)
        p = np.exp(log_p)
        marginal += p.sum(axis=0)
        negative_entropy += float((p * log_p).sum())
    marginal /= len(rows)
    return float(np.exp(negative_entropy / len(rows) - xlogy(marginal, marginal).sum()))  # xlogy: 0 log 0 = 0
