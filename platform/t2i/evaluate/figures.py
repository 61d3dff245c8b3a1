"""The figures of a report: metrics of image sets, each with what is compared and the number of images on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from t2i.evaluate.candidates import Candidates
from t2i.evaluate.feature_sets import FeatureSet
from t2i.metrics.clip_score import clip_score, cosine
from t2i.metrics.features import ExtractorProtocol
from t2i.metrics.fid import frechet_distance
from t2i.metrics.inception_score import inception_score
from t2i.metrics.kid import kernel_distance
from t2i.metrics.prdc import prdc
from t2i.metrics.retrieval import recall_at, retrieval_ranks

SUBJECT_LABELS = {
    "best": "Drawn: best by CLIP",
    "first": "Drawn: first, not selected",
    "reconstruction": "dVAE reconstructions of the real images",
    "train": "Training images",
    "shuffled": "Drawn, captions shuffled",
    "random_tokens": "Random tokens, decoded",
    "real": "The real images themselves",
}
"""Names of the image sets that are measured -> their titles in the report, in the report's order.

``shuffled`` is no set of its own but the images of ``best``, each beside another image's caption.
"""


@dataclass(frozen=True)
class Figure:
    """One measured number: ``metric`` of the images ``subject`` against ``reference``, both blurred by ``blur`` pixels.

    ``reference`` is an image set, ``captions``, or None where nothing is compared. ``spread`` is a standard deviation
    over subsets or splits (``details`` say how many), or the standard error of a mean.
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
    """Return all figures of one caption set; without real images, only those that compare images with captions."""
    figures = list(caption_figures(sets, candidates, seed))
    for index, radius in enumerate(radii if "real" in sets else ()):
        figures += image_figures(sets, extractor, index, radius)
    return figures


def image_figures(
    sets: Mapping[str, FeatureSet], extractor: ExtractorProtocol, index: int, radius: float
) -> Iterator[Figure]:
    """Yield all image sets' inception scores and distances from the real images, at the ``index``-th radius of blur."""
    real = sets["real"]
    real_statistics = real.statistics(index)
    for subject, images in sets.items():
        yield _inception_figure(subject, images, extractor, index, radius)
        if subject == "real":
            continue
        distance = frechet_distance(images.statistics(index), real_statistics)
        yield Figure(extractor.metric_name("fid"), subject, "real", distance, None, len(images), len(real), radius)
        yield from _kernel_figures(subject, images, real, extractor, index, radius)
        yield from _precision_recall_figures(subject, images, real, index, radius)


def _inception_figure(
    subject: str, images: FeatureSet, extractor: ExtractorProtocol, index: int, radius: float
) -> Figure:
    score = inception_score(images.logits[:, index])
    details = {"splits": score.splits} | ({} if score.seed is None else {"seed": score.seed})
    return Figure(extractor.metric_name("is"), subject, None, score.mean, score.std, len(images), 0, radius, details)


def _kernel_figures(
    subject: str, images: FeatureSet, real: FeatureSet, extractor: ExtractorProtocol, index: int, radius: float
) -> Iterator[Figure]:
    """Yield the KID of ``subject``; that of ``best`` a second time for ``shuffled``, which has the same images."""
    kid = kernel_distance(images.features[:, index], real.features[:, index])
    details: dict[str, int | float | str] = {"subsets": kid.subsets, "subset_size": kid.subset_size, "seed": kid.seed}
    name = extractor.metric_name("kid")
    figure = Figure(name, subject, "real", kid.mean, kid.std, len(images), len(real), radius, details)
    yield figure
    if subject == "best":
        note = {"note": "equal to the drawn images' by construction: KID does not read captions"}
        yield replace(figure, subject="shuffled", details=details | note)


def _precision_recall_figures(
    subject: str, images: FeatureSet, real: FeatureSet, index: int, radius: float
) -> Iterator[Figure]:
    result = prdc(real.features[:, index], images.features[:, index])
    details = {"neighbours": result.neighbours}
    means = result.means()
    for metric, value in {name: means[name] for name in ("precision", "recall")}.items():
        yield Figure(metric, subject, "real", value, None, len(images), len(real), radius, details)


def caption_figures(sets: Mapping[str, FeatureSet], candidates: Candidates, seed: int) -> Iterator[Figure]:
    """Yield CLIP scores and retrieval of all image sets with their captions, and of ``best`` with shuffled captions.

    Training images have none of these captions and are left out.
    """
    captions = dict(zip(candidates.ids, candidates.caption_features, strict=True))
    for subject, images in sets.items():
        if subject == "train":
            continue
        features = np.stack([captions[caption_id] for caption_id in images.ids])
        yield from _caption_figures(subject, images.clip, features)
        if subject == "best" and len(images) > 1:
            yield from _caption_figures("shuffled", images.clip, features[derangement(len(images), seed)])


def _caption_figures(subject: str, images: np.ndarray, captions: np.ndarray) -> Iterator[Figure]:
    """Yield the figures of images and captions whose unit-norm features, [n, F] each, correspond row by row."""
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
    """Return a random permutation of 0..n-1 that leaves no number in its place: int64 [n], for n >= 2."""
    # A plain permutation would leave one caption in its place on average, and a control must have none.
    # Put the numbers around a circle in random order and let each take its neighbour's place:
    #
    #     2 -> 0 -> 3 -> 1 -> (2)      places[0] = 2, places[3] = 0, places[1] = 3, places[2] = 1
    #
    # In a single cycle of at least two nobody is its own neighbour. (Derangements of several cycles are never drawn.)
    cycle = np.random.default_rng(seed).permutation(n)
    places = np.empty(n, np.int64)
    places[cycle] = np.roll(cycle, 1)
    return places
