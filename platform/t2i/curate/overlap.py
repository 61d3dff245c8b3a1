"""Find training images that are also in an evaluation set, as the paper did (section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from t2i.curate.config import DuplicateRules
from t2i.curate.gather import ImageMeasurements
from t2i.curate.neighbours import hash_neighbours, similarities


@dataclass(frozen=True)
class Match:
    """A training image (its row and id) that is similar to an evaluation image (``<set>/<id>``).

    ``method`` is ``identical``, ``alike`` (perceptual hash) or ``clip``. ``similarity`` is 1 for identical pixels,
    1 - (differing bits) / 64 for the hash, and the cosine for CLIP. ``dropped`` says whether the training image is
    dropped for this match.
    """

    method: str
    train: int
    train_id: str
    eval_id: str
    similarity: float
    dropped: bool


def identical_matches(train: ImageMeasurements, evaluation: ImageMeasurements) -> list[Match]:
    """Match training images that have the same pixels as an evaluation image."""
    known = dict(zip(evaluation.digest[::-1], evaluation.id[::-1], strict=True))  # reversed: the first id wins
    return [
        Match("identical", row, train.id[row], known[digest], 1.0, True)
        for row, digest in enumerate(train.digest)
        if digest in known
    ]


def alike_matches(train: ImageMeasurements, evaluation: ImageMeasurements, rules: DuplicateRules) -> list[Match]:
    """Match training images that look like an evaluation image, each with the one of the most similar hash."""
    if rules.bits < 0:
        return []
    hashes = np.concatenate([train.hash, evaluation.hash])
    colours = np.concatenate([train.colours, evaluation.colours])
    found = hash_neighbours(hashes, colours, rules.bits, rules.colour)
    best: dict[int, Match] = {}
    columns = (found.first, found.second, found.similarity)
    for row, other, similarity in zip(*(column.tolist() for column in columns), strict=True):
        is_cross_pair = row < len(train) <= other  # training rows come before evaluation rows
        if is_cross_pair and (row not in best or similarity > best[row].similarity):
            eval_id = evaluation.id[other - len(train)]
            best[row] = Match("alike", row, train.id[row], eval_id, similarity, True)
    return list(best.values())


def clip_matches(train: ImageMeasurements, evaluation: ImageMeasurements, threshold: float | None) -> list[Match]:
    """Match training images with their nearest evaluation image by CLIP cosine, and the other way round.

    Two kinds of matches are returned: every training image whose nearest evaluation image has at least a cosine of
    ``threshold`` (dropped), and for every evaluation image its nearest training image (not dropped, unless it is also
    of the first kind). The latter show in the report what lies on both sides of the threshold.
    """
    if threshold is None or train.embedding is None or evaluation.embedding is None or not len(train):
        return []
    near_train, near_eval = _nearest(train.embedding, evaluation.embedding)
    cosines = {(int(row), i): near_eval.cosine[i] for i, row in enumerate(near_eval.row)}
    copies = np.flatnonzero(near_train.cosine >= threshold).tolist()
    dropped = {(row, int(near_train.row[row])): near_train.cosine[row] for row in copies}
    cosines |= dropped
    return [
        Match("clip", row, train.id[row], evaluation.id[other], float(cosine), (row, other) in dropped)
        for (row, other), cosine in sorted(cosines.items())
    ]


@dataclass(frozen=True)
class _Nearest:
    """Each row's nearest row in another set (the first of equally near ones): number int64 [n], cosine float32 [n]."""

    row: np.ndarray
    cosine: np.ndarray


def _nearest(train: np.ndarray, evaluation: np.ndarray) -> tuple[_Nearest, _Nearest]:
    """Return the nearest evaluation row of each training row, and the nearest training row of each evaluation row.

    ``train`` [n, F] and ``evaluation`` [m, F] are unit-norm.
    """
    for_train = _Nearest(np.zeros(len(train), np.int64), np.zeros(len(train), np.float32))
    for_eval = _Nearest(np.zeros(len(evaluation), np.int64), np.full(len(evaluation), -np.inf, np.float32))
    for start, scores in similarities(train, evaluation):
        rows = slice(start, start + len(scores))
        for_train.row[rows], for_train.cosine[rows] = scores.argmax(axis=1), scores.max(axis=1)
        nearer = scores.max(axis=0) > for_eval.cosine
        for_eval.row[nearer] = start + scores.argmax(axis=0)[nearer]
        for_eval.cosine[nearer] = scores.max(axis=0)[nearer]
    return for_train, for_eval
