"""Several captions for an image: kept in one flat list, of which a training step takes one for each image."""

from __future__ import annotations

import numpy as np

from t2i.train.tasks.base import Columns


def flatten_captions(captions: np.ndarray) -> tuple[list[str], Columns]:
    """Return the captions of all n images in one list of C, and where in it each image's own are.

    ``captions`` holds a list of str for each image. The columns are int64 [n]: image i owns the captions
    ``first[i]`` to ``first[i] + count[i] - 1``.
    """
    count = np.array([len(row) for row in captions])
    return [caption for row in captions for caption in row], {"count": count, "first": np.cumsum(count) - count}


def choose_captions(count: np.ndarray, weights: list[float], uniform: np.ndarray) -> np.ndarray:
    """Draw a caption number in [0, count) for each image, int64 [B].

    Args:
        count: the number of captions of each image, int64 [B].
        weights: relative chances of an image's 1st, 2nd, ... caption; the last holds for all further ones, and without
            any all captions are equally likely.
        uniform: a random number in [0, 1) for each image, float64 [B].
    """
    most = int(count.max())
    chances = np.array([*weights, *[weights[-1] if weights else 1.0] * most])[:most]
    cumulative = np.where(np.arange(most) < count[:, None], chances, 0.0).cumsum(axis=1)
    chosen: np.ndarray = (uniform[:, None] * cumulative[:, -1:] >= cumulative).sum(axis=1)
    return chosen
