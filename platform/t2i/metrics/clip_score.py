"""How well images fit their captions in a CLIP's embedding; every figure belongs to that CLIP."""

from __future__ import annotations

import numpy as np
from scipy.special import comb


def cosine(image_features: np.ndarray, caption_features: np.ndarray) -> np.ndarray:
    """Cosine of unit-norm [n, E] and [n, E], row by row: [n]."""
    return (image_features * caption_features).sum(axis=1)


def clip_score(image_features: np.ndarray, caption_features: np.ndarray) -> np.ndarray:
    """CLIPScore of each sample, 2.5 * max(cos, 0) (Hessel et al. 2021): unit-norm [n, E] x 2 -> [n].

    The clip is of each sample, not of the mean.
    """
    return 2.5 * cosine(image_features, caption_features).clip(min=0)


def expected_best_of(scores: np.ndarray) -> np.ndarray:
    """Scores [captions, n] -> the mean best score of k random candidates of a caption, k = 1..n: [n].

    The i-th best (from 0) is the best of a k-subset in C(n - 1 - i, k - 1) of C(n, k) draws.
    """
    n = scores.shape[1]
    best_first = np.sort(scores, axis=1)[:, ::-1].mean(axis=0, dtype=np.float64)
    draws, place = np.arange(1, n + 1)[:, None], np.arange(n)[None]
    return (comb(n - 1 - place, draws - 1) / comb(n, draws)) @ best_first
