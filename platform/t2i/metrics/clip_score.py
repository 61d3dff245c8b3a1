"""How well images fit their captions according to a CLIP; scores of different CLIPs cannot be compared."""

from __future__ import annotations

import numpy as np
from scipy.special import comb


def cosine(image_features: np.ndarray, caption_features: np.ndarray) -> np.ndarray:
    """Return the cosines [n] between unit-norm features [n, F] and [n, F], row by row."""
    similarity: np.ndarray = (image_features * caption_features).sum(axis=1)
    return similarity


def clip_score(image_features: np.ndarray, caption_features: np.ndarray) -> np.ndarray:
    """Return the CLIPScore of every pair, 2.5 * max(cosine, 0), as [n] (Hessel et al. 2021).

    Takes unit-norm features [n, F] and [n, F]. Negative cosines are raised to 0 pair by pair, before any mean.
    """
    return 2.5 * cosine(image_features, caption_features).clip(min=0)


def expected_best_of(scores: np.ndarray) -> np.ndarray:
    """Return the expected score of the best of k candidates, for k = 1..n, as [n]; the mean over all captions.

    Takes ``scores`` [captions, n]. The k candidates are drawn at random, without replacement, from a caption's n; the
    expectation over all such subsets is exact, nothing is sampled.
    """
    n = scores.shape[1]
    best_first = np.sort(scores, axis=1)[:, ::-1].mean(axis=0, dtype=np.float64)  # [n]
    # A subset's best is the candidate of rank i (0 is the best of all) if it holds that one and k - 1 of the
    # n - 1 - i worse ones. So C(n - 1 - i, k - 1) of the C(n, k) subsets of size k have it as their best.
    # For n = 3 the weights are
    #            rank 0   1    2
    #     k = 1     1/3  1/3  1/3     the mean
    #     k = 2     2/3  1/3   0
    #     k = 3      1    0    0      the best of all
    subset_size, rank = np.arange(1, n + 1)[:, None], np.arange(n)[None]
    weights = comb(n - 1 - rank, subset_size - 1) / comb(n, subset_size)  # [k, rank]
    expected: np.ndarray = weights @ best_first
    return expected
