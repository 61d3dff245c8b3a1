"""Images with several captions each: all captions in one list, and which of them a step takes."""

from __future__ import annotations

import numpy as np

from t2i.train.tasks.base import Columns


def flatten_captions(captions: np.ndarray) -> tuple[list[str], Columns]:
    """Lists of str [n] -> all captions one after the other, and each image's ``first`` place there and ``count``."""
    count = np.array([len(row) for row in captions])
    return [caption for row in captions for caption in row], {"count": count, "first": np.cumsum(count) - count}


def choose_captions(count: np.ndarray, weights: list[float], uniform: np.ndarray) -> np.ndarray:
    """A caption number in [0, count) for each image, int64 [B], with the chances of ``caption_weights``; ``uniform``
    are its random numbers in [0, 1), float64 [B]."""
    most = int(count.max())
    chances = np.array([*weights, *[weights[-1] if weights else 1.0] * most])[:most]
    cumulative = np.where(np.arange(most) < count[:, None], chances, 0.0).cumsum(axis=1)
    return (uniform[:, None] * cumulative[:, -1:] >= cumulative).sum(axis=1)
