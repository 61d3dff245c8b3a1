"""Figures: a number, what it compares, and how many images stood on each side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from t2i.evaluate.candidates import Candidates
from t2i.evaluate.feature_sets import FeatureSet
from t2i.metrics.clip_score import clip_score, cosine
from t2i.metrics.features import ExtractorProtocol
from t2i.metrics.fid import frechet_distance
from t2i.metrics.inception_score import inception_score
from t2i.metrics.kid import kernel_distance
from t2i.metrics.precision_recall import precision_recall
from t2i.metrics.retrieval import recall_at, retrieval_ranks

SUBJECTS = {
    "best": "Drawn: best by CLIP",
    "first": "Drawn: first, not selected",
    "reconstruction": "dVAE reconstructions of the real images",
    "train": "Training images",
    "shuffled": "Drawn, captions shuffled",
    "random_tokens": "Random tokens, decoded",
    "real": "The real images themselves",
}
"""Every set of images under comparison, in the order of the report."""


@dataclass(frozen=True)
class Figure:
    """``metric`` of ``subject`` against ``reference`` (an image set, or ``captions``) at a radius of blur.

    ``spread`` is a standard deviation over subsets or splits (``details`` say how many), or a mean's standard error.
    """

    metric: str
    subject: str
    reference: str | None
    value: float
    spread: float | None
    n_subject: int
    n_reference: int
    blur: float = 0.0
    details: Mapping[str, int | float | str] = field(default_factory=dict)


def all_figures(
    sets: Mapping[str, FeatureSet],
    candidates: Candidates,
    extractor: ExtractorProtocol,
    radii: Sequence[float],
    seed: int,
) -> list[Figure]:
    """Every figure of one caption set; distances only where it has real images."""
    figures = list(caption_figures(sets, candidates, seed))
    for index, radius in enumerate(radii if "real" in sets else ()):
        figures += image_figures(sets, extractor, index, radius)
    return figures


def image_figures(
    sets: Mapping[str, FeatureSet], extractor: ExtractorProtocol, index: int, radius: float
) -> Iterator[Figure]:
    """Distances of every set from the real images, and inception scores, at the ``index``-th radius."""
    real = sets["real"]
    statistics = real.statistics(index)
    for subject, images in sets.items():
        sizes = (len(images), len(real))
        score = inception_score(images.logits[:, index])
        details = {"splits": score.splits, "seed": score.seed}
        yield Figure(extractor.figure("is"), subject, None, score.mean, score.std, len(images), 0, radius, details)
        if subject == "real":
            continue
        distance = frechet_distance(images.statistics(index), statistics)
        yield Figure(extractor.figure("fid"), subject, "real", distance, None, *sizes, radius)
        yield from _kernel_figures(subject, images, real, extractor, index, radius)
        manifold = precision_recall(real.features[:, index], images.features[:, index])
        neighbours = {"neighbours": manifold.neighbours}
        yield Figure("precision", subject, "real", manifold.precision, None, *sizes, radius, neighbours)
        yield Figure("recall", subject, "real", manifold.recall, None, *sizes, radius, neighbours)


def _kernel_figures(
    subject: str, images: FeatureSet, real: FeatureSet, extractor: ExtractorProtocol, index: int, radius: float
) -> Iterator[Figure]:
    """KID, and once more for the same images under shuffled captions, which it cannot see."""
    kid = kernel_distance(images.features[:, index], real.features[:, index])
    details: dict[str, int | float | str] = {"subsets": kid.subsets, "subset_size": kid.subset_size, "seed": kid.seed}
    rest = (extractor.figure("kid"), "real", kid.mean, kid.std, len(images), len(real), radius)
    yield Figure(rest[0], subject, *rest[1:], details)
    if subject == "best":
        note = {"note": "equal to the drawn images' by construction: KID does not read captions"}
        yield Figure(rest[0], "shuffled", *rest[1:], details | note)


def caption_figures(sets: Mapping[str, FeatureSet], candidates: Candidates, seed: int) -> Iterator[Figure]:
    """CLIP score and retrieval of every set whose images have captions, and of drawn images under others' captions."""
    captions = dict(zip(candidates.ids, candidates.caption_features, strict=True))
    for subject, images in sets.items():
        if subject == "train":
            continue
        features = np.stack([captions[id] for id in images.ids])
        yield from _caption_figures(subject, images.clip, features)
        if subject == "best" and len(images) > 1:
            yield from _caption_figures("shuffled", images.clip, features[derangement(len(images), seed)])


def _caption_figures(subject: str, images: np.ndarray, captions: np.ndarray) -> Iterator[Figure]:
    n = len(images)
    scores = clip_score(images, captions)
    similarity = cosine(images, captions)
    for metric, values in {"clip_score": scores, "clip_cosine": similarity}.items():
        error = float(values.std() / n**0.5)
        yield Figure(metric, subject, "captions", float(values.mean()), error, n, n)
    ranks = retrieval_ranks(images, captions)
    for k in (1, 10):
        recall = recall_at(ranks, k)
        yield Figure(f"clip_r@{k}", subject, "captions", recall, None, n, n, details={"chance": min(1.0, k / n)})


def derangement(n: int, seed: int) -> np.ndarray:
    """A random permutation of n >= 2 places, as one cycle, so that nothing keeps its place."""
    cycle = np.random.default_rng(seed).permutation(n)
    places = np.empty(n, np.int64)
    places[cycle] = np.roll(cycle, 1)
    return places
