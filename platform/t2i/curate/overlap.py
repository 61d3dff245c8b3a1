"""Training images that are also in an evaluation set (paper section 3.1: a fifth of COCO's were in its data)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from t2i.curate.config import DuplicateRules
from t2i.curate.gather import ImageMeasurements
from t2i.curate.neighbours import hash_neighbours, similarities


@dataclass(frozen=True)
class Match:
    """A training image (its place and id) and an evaluation image ``set/id``; ``dropped`` says whether it goes.

    ``similarity`` is 1 for identical pixels, 1 - (differing bits) / 64 by the hash, or the cosine by CLIP.
    """

    method: str
    train: int
    train_id: str
    eval_id: str
    similarity: float
    dropped: bool


def identical_matches(train: ImageMeasurements, evaluation: ImageMeasurements) -> list[Match]:
    """Training images whose pixels are those of an evaluation image."""
    known = dict(zip(evaluation.digest[::-1], evaluation.id[::-1], strict=True))
    return [
        Match("identical", place, train.id[place], known[digest], 1.0, True)
        for place, digest in enumerate(train.digest)
        if digest in known
    ]


def alike_matches(train: ImageMeasurements, evaluation: ImageMeasurements, rules: DuplicateRules) -> list[Match]:
    """Training images that look like an evaluation image, each with the one it differs from in the fewest bits."""
    if rules.bits < 0:
        return []
    hashes = np.concatenate([train.hash, evaluation.hash])
    colours = np.concatenate([train.colours, evaluation.colours])
    found = hash_neighbours(hashes, colours, rules.bits, rules.colour)
    best: dict[int, Match] = {}
    for place, other, similarity in zip(
        *(c.tolist() for c in (found.first, found.second, found.similarity)), strict=True
    ):
        if place < len(train) <= other and (place not in best or similarity > best[place].similarity):
            eval_id = evaluation.id[other - len(train)]
            best[place] = Match("alike", place, train.id[place], eval_id, similarity, True)
    return list(best.values())


def clip_matches(train: ImageMeasurements, evaluation: ImageMeasurements, threshold: float | None) -> list[Match]:
    """Training images at least ``threshold`` from their nearest evaluation image, which go, and others, which stay.

    Those are the training images nearest to each evaluation image: what the threshold is set by.
    """
    if threshold is None or train.embedding is None or evaluation.embedding is None or not len(train):
        return []
    near_train, near_eval = _nearest(train.embedding, evaluation.embedding)
    goes = np.flatnonzero(near_train.similarity >= threshold)
    pairs = dict(
        zip(zip(near_eval.place.tolist(), range(len(evaluation)), strict=True), near_eval.similarity, strict=True)
    )
    pairs |= {(place, int(near_train.place[place])): near_train.similarity[place] for place in goes.tolist()}
    dropped = {(place, int(near_train.place[place])) for place in goes.tolist()}
    return [
        Match("clip", place, train.id[place], evaluation.id[other], float(cosine), (place, other) in dropped)
        for (place, other), cosine in sorted(pairs.items())
    ]


@dataclass(frozen=True)
class _Nearest:
    """Of each row the nearest of the other set, of equals the first: its place int64 [n] and cosine float32 [n]."""

    place: np.ndarray
    similarity: np.ndarray


def _nearest(train: np.ndarray, evaluation: np.ndarray) -> tuple[_Nearest, _Nearest]:
    """Unit rows [n, E] and [m, E] -> for the training rows and for the evaluation rows."""
    for_train = _Nearest(np.zeros(len(train), np.int64), np.zeros(len(train), np.float32))
    for_eval = _Nearest(np.zeros(len(evaluation), np.int64), np.full(len(evaluation), -np.inf, np.float32))
    for start, scores in similarities(train, evaluation):
        rows = slice(start, start + len(scores))
        for_train.place[rows], for_train.similarity[rows] = scores.argmax(axis=1), scores.max(axis=1)
        nearer = scores.max(axis=0) > for_eval.similarity
        for_eval.place[nearer] = start + scores.argmax(axis=0)[nearer]
        for_eval.similarity[nearer] = scores.max(axis=0)[nearer]
    return for_train, for_eval
