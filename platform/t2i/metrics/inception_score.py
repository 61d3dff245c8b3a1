"""Inception score: exp of the mean KL divergence of p(y | x) from p(y) (Salimans et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import log_softmax


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation over ``splits`` parts of the sample, shuffled with ``seed``."""

    mean: float
    std: float
    splits: int
    seed: int


def inception_score(logits: np.ndarray, *, splits: int = 10, seed: int = 2020) -> InceptionScore:
    """Score of class logits [n, classes], in float64 (float32 gives NaN at a logit deviation of about 24).

    It depends on the number of splits and on the order, so both are part of the result; the shuffle is
    torch-fidelity's.

    Raises:
        ValueError: there are fewer samples than splits.
    """
    if len(logits) < splits:
        raise ValueError(f"the inception score has {len(logits)} images for {splits} splits: use fewer splits.")
    shuffled = logits[np.random.RandomState(seed).permutation(len(logits))]
    bounds = [index * len(logits) // splits for index in range(splits + 1)]
    scores = [_score(shuffled[start:stop]) for start, stop in pairwise(bounds)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), splits, seed)


def _score(logits: np.ndarray) -> float:
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    p = np.exp(log_p)
    divergence = (p * (log_p - np.log(p.mean(axis=0) + np.finfo(np.float64).tiny))).sum(axis=1)
    return float(np.exp(divergence.mean()))
