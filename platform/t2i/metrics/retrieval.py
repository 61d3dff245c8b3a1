"""Retrieval between images and captions: whether each finds its own partner, among all n or among 99 others."""

from __future__ import annotations

import numpy as np

from t2i.metrics.blocks import row_blocks

OTHERS = 99
"""Captions that R-precision sets beside the true one (AttnGAN, DM-GAN)."""


def retrieval_ranks(queries: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the rank of each query's own target, that in its row, among all targets: int64 [n], 1 is best.

    Takes unit-norm features [n, F] and [n, F] and ranks by cosine. Targets with the same cosine as the query's own
    do not worsen its rank. Cosines are in memory for a block of queries only.
    """
    return np.concatenate([_ranks(queries[rows], targets, rows.start) for rows in row_blocks(len(queries))])


def _ranks(block: np.ndarray, targets: np.ndarray, first: int) -> np.ndarray:
    """Return the ranks of the own targets of queries [B, F], which begin at row ``first``."""
    similarity = block @ targets.T  # [B, n]
    ranks: np.ndarray = 1 + (similarity > similarity.diagonal(first)[:, None]).sum(axis=1)
    return ranks


def recall_at(ranks: np.ndarray, k: int) -> float:
    """Return the fraction of ``ranks`` int64 [n] that are at most k; guessing gives k / n."""
    return float((ranks <= k).mean())


def r_precision(images: np.ndarray, captions: np.ndarray, *, others: int = OTHERS, seed: int = 2020) -> np.ndarray:
    """Return whether each image is closest to its own caption among ``others`` more: bool [n]; R-precision is the mean.

    Takes unit-norm features [n, F] and [n, F]. The other captions are drawn for each image from those of the other
    images, by ``seed``. A tie counts as right, as in :func:`retrieval_ranks`. Guessing gives 1 / (others + 1). The
    papers used an encoder of their own (DAMSM) and captions of other classes; figures of a CLIP are comparable only
    with that CLIP's.

    Raises:
        ValueError: there are no ``others`` other captions.
    """
    n = len(images)
    if n <= others:
        raise ValueError(f"R-precision needs {others} other captions, there are {n - 1}: evaluate more.")
    random = np.random.default_rng(seed)
    return np.array([_finds_own(images[row], row, captions, others, random) for row in range(n)])


def _finds_own(image: np.ndarray, row: int, captions: np.ndarray, others: int, random: np.random.Generator) -> bool:
    drawn = random.choice(len(captions) - 1, others, replace=False)
    drawn += drawn >= row  # all captions but its own
    similarity = captions[np.concatenate([[row], drawn])] @ image
    return bool(similarity[0] >= similarity.max())
