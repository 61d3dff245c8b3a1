"""The figures of a report: metrics of image sets, each with what is compared and the number of images on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from models.errors import UserError
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.reference import Reference
from t2i.evaluate.sweep import is_blurred
from t2i.metrics.clip_score import clip_score, cosine
from t2i.metrics.cmmd import cmmd
from t2i.metrics.features import ExtractorProtocol
from t2i.metrics.fid import frechet_distance
from t2i.metrics.fid_infinity import fid_infinity
from t2i.metrics.fid_interval import fid_interval
from t2i.metrics.inception_score import inception_score
from t2i.metrics.intervals import Interval, bootstrap_mean, interval_of_splits, interval_of_subsets
from t2i.metrics.kid import kernel_distance
from t2i.metrics.mind import mind
from t2i.metrics.prdc import PRDC_SAMPLE, prdc
from t2i.metrics.retrieval import OTHERS, r_precision, retrieval_ranks
from t2i.metrics.torch_fidelity_check import compare_with_torch_fidelity

SUBJECT_LABELS = {
    "best": "Drawn: best by CLIP",
    "best_distinct": "Drawn: best by CLIP, without near-copies of training images",
    "first": "Drawn: first, not selected",
    "reconstruction": "dVAE reconstructions of the real images",
    "train": "Training images",
    "shuffled": "Drawn, captions shuffled",
    "random_tokens": "Random tokens, decoded",
    "real": "The real images themselves",
}
"""Names of the image sets that are measured -> their titles in the report, in the report's order.

``shuffled`` is no set of its own but the images of ``best``, each beside another image's caption; ``best_distinct`` are
those of it that :mod:`t2i.evaluate.overlap` keeps. The sets between ``first`` and ``best`` (``best_of_2``, ...) stand
in the sweep over the number of candidates.
"""

EXTRAPOLATED_FROM = 100
"""Fewest drawn images whose distance is extrapolated to infinitely many."""

SEED = 2020
"""Seed of splits, subsets and resampling: torch-fidelity's."""


@dataclass(frozen=True)
class Figure:
    """One measured number: ``metric`` of the images ``subject`` against ``reference``, both blurred by ``blur`` pixels.

    ``reference`` is an image set, ``captions``, or None where nothing is compared. ``spread`` is a standard deviation
    over subsets or splits (``details`` say how many), or a standard error; ``interval`` says how it was found.
    """

    metric: str
    subject: str
    reference: str | None
    value: float
    spread: float | None
    n_subject: int
    n_reference: int
    blur: float = 0.0
    interval: Interval | None = None
    details: Mapping[str, int | float | str] = field(default_factory=dict)


def image_figures(
    images: ImageSet, reference: Reference | None, extractor: ExtractorProtocol, radius: float
) -> list[Figure]:
    """Return an image set's inception score and distances from the reference at one radius of blur.

    Distances of the real images from themselves are left out.
    """
    figures = list(_inception_figures(images, extractor, radius))
    if reference is None or images.name == "real":
        return figures
    figures.append(_frechet_figure(images, reference, extractor, radius))
    if radius == 0 and images.name == "best" and images.statistics(radius).count >= EXTRAPOLATED_FROM:
        figures.append(_extrapolated_figure(images, reference, extractor))
    if radius == 0 and images.name == "best" and reference.images is not None and extractor.is_fid:
        figures += _peer_figures(images, reference.images)
    if reference.images is not None and is_blurred(images.name):
        figures += _paired_figures(images, reference.images, extractor, radius)
    return figures


def _paired_figures(images: ImageSet, real: ImageSet, extractor: ExtractorProtocol, radius: float) -> Iterator[Figure]:
    """Yield the figures that need the features of both sides; what takes long, without blur alone."""
    features, real_features = images.features(radius), real.features(radius)
    yield from _kernel_figures(images.name, features, real_features, extractor, radius)
    if radius == 0:
        yield from _neighbour_figures(images.name, features, real_features)
        yield from _other_distances(images, real, features, real_features)


def _inception_figures(images: ImageSet, extractor: ExtractorProtocol, radius: float) -> Iterator[Figure]:
    """Yield the inception score of shuffled splits and, without blur, of splits in the images' own order.

    There is none if the extractor knows no classes, as those of timm and open_clip.
    """
    logits = images.logits(radius)
    if not logits.shape[1]:
        return
    for name, seed in {"is": SEED, "is_ordered": None}.items():
        if seed is None and radius:
            continue
        score = inception_score(logits, splits=min(10, len(logits)), seed=seed)
        interval = interval_of_splits(score.mean, score.std, score.splits) if score.splits > 1 else None
        details = {"splits": score.splits, "order": "shuffled" if seed else "as listed"}
        sizes, metric = (len(logits), 0), extractor.metric_name(name)
        yield Figure(metric, images.name, None, score.mean, score.std, *sizes, radius, interval, details)


def _frechet_figure(images: ImageSet, reference: Reference, extractor: ExtractorProtocol, radius: float) -> Figure:
    drawn, real = images.statistics(radius), reference.statistics(radius)
    with_interval = images.name == "best" and radius == 0
    interval = fid_interval(images.features(radius), real) if with_interval else None
    sizes = (drawn.count, real.count)
    name = extractor.metric_name("fid")
    return Figure(name, images.name, "real", frechet_distance(drawn, real), None, *sizes, radius, interval)


def _kernel_figures(
    subject: str, features: np.ndarray, real: np.ndarray, extractor: ExtractorProtocol, radius: float
) -> Iterator[Figure]:
    """Yield the KID of ``subject``; that of ``best`` a second time for ``shuffled``, which has the same images."""
    kid = kernel_distance(features, real)
    details: dict[str, int | float | str] = {"subsets": kid.subsets, "subset_size": kid.subset_size, "seed": kid.seed}
    n = min(len(features), len(real))
    interval = interval_of_subsets(kid.mean, kid.std, subsets=kid.subsets, subset_size=kid.subset_size, n=n)
    name = extractor.metric_name("kid")
    figure = Figure(name, subject, "real", kid.mean, kid.std, len(features), len(real), radius, interval, details)
    yield figure
    if subject == "best":
        note = {"note": "equal to the drawn images' by construction: KID does not read captions"}
        yield replace(figure, subject="shuffled", details=details | note)


def _neighbour_figures(subject: str, features: np.ndarray, real: np.ndarray) -> Iterator[Figure]:
    """Yield precision, recall, density and coverage, of at most :data:`PRDC_SAMPLE` images of each side."""
    generated, compared = _sampled(features), _sampled(real)
    result = prdc(compared, generated)
    details = {"neighbours": result.neighbours, "density_neighbours": result.density_neighbours}
    sizes = (len(generated), len(compared))
    for metric, per_image in result.per_image().items():
        value, interval = float(per_image.mean()), bootstrap_mean(per_image)
        yield Figure(metric, subject, "real", value, None, *sizes, 0.0, interval, details)


def _peer_figures(images: ImageSet, real: ImageSet) -> Iterator[Figure]:
    """Yield FID and KID of the same features as torch-fidelity computes them; nothing if it is not installed."""
    features, real_features = images.features(0.0), real.features(0.0)
    try:
        compared = compare_with_torch_fidelity(features, real_features)
    except UserError:
        return
    for each in compared:
        details = {"ours": each.ours, "relative_difference": each.relative_difference}
        sizes = (len(features), len(real_features))
        yield Figure(f"{each.metric}_torch_fidelity", images.name, "real", each.theirs, None, *sizes, details=details)


def _other_distances(
    images: ImageSet, real: ImageSet, features: np.ndarray, real_features: np.ndarray
) -> Iterator[Figure]:
    """Yield CMMD, on CLIP's features, and MIND."""
    sizes = (len(features), len(real_features))
    for metric, found in {"cmmd": cmmd(images.clip, real.clip), "mind": mind(features, real_features)}.items():
        yield Figure(metric, images.name, "real", found.value, found.standard_error, *sizes, 0.0, found.interval())


def _extrapolated_figure(images: ImageSet, reference: Reference, extractor: ExtractorProtocol) -> Figure:
    """Return the Fréchet distance extrapolated to infinitely many drawn images."""
    features, real = images.features(0.0), reference.statistics(0.0)
    found = fid_infinity(features, real)
    name = extractor.metric_name("fid_infinity")
    sizes = (len(features), real.count)
    return Figure(name, images.name, "real", found.value, found.standard_error, *sizes, 0.0, found.interval())


def _sampled(features: np.ndarray) -> np.ndarray:
    """Return at most :data:`PRDC_SAMPLE` rows, drawn at random."""
    if len(features) <= PRDC_SAMPLE:
        return features
    rows: np.ndarray = features[np.sort(np.random.RandomState(SEED).choice(len(features), PRDC_SAMPLE, replace=False))]
    return rows


def caption_figures(images: ImageSet, captions: Mapping[str, np.ndarray], seed: int) -> list[Figure]:
    """Return CLIP scores and retrieval of an image set with its ``captions``, id of an image -> CLIP feature [F].

    Images without a caption are left out. ``best`` is measured a second time beside shuffled captions.
    """
    clip, features = beside_captions(images, captions)
    if not len(clip):
        return []
    if images.name.startswith("best_of_"):
        return list(_score_figures(images.name, clip, features))
    figures = [*_score_figures(images.name, clip, features), *_retrieval_figures(images.name, clip, features)]
    if images.name == "best" and len(clip) > 1:
        shuffled = features[derangement(len(clip), seed)]
        figures += [*_score_figures("shuffled", clip, shuffled), *_retrieval_figures("shuffled", clip, shuffled)]
    return figures


def beside_captions(images: ImageSet, captions: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return CLIP's features of those images that have a caption, and of their captions: float32 [n, F] each."""
    ids, clip = images.ids, images.clip
    rows = [row for row, image_id in enumerate(ids) if image_id in captions]
    own = np.array([captions[ids[row]] for row in rows], np.float32)
    return clip[rows], own.reshape(len(rows), clip.shape[1])


def _score_figures(subject: str, images: np.ndarray, captions: np.ndarray) -> Iterator[Figure]:
    """Yield CLIP scores of images and captions whose unit-norm features, [n, F] each, correspond row by row."""
    for metric, values in {"clip_score": clip_score(images, captions), "clip_cosine": cosine(images, captions)}.items():
        n, mean = len(values), float(values.mean(dtype=np.float64))
        error, interval = float(values.std() / n**0.5), bootstrap_mean(values)
        yield Figure(metric, subject, "captions", mean, error, n, n, 0.0, interval)


def _retrieval_figures(subject: str, images: np.ndarray, captions: np.ndarray) -> Iterator[Figure]:
    n = len(images)
    ranks = retrieval_ranks(images, captions)
    found = {f"clip_r@{k}": (ranks <= k, k / n) for k in (1, 10)}
    if n > 1:
        others = min(OTHERS, n - 1)
        found["clip_r_precision"] = (r_precision(images, captions, others=others), 1 / (others + 1))
    for metric, (hits, chance) in found.items():
        details = {"chance": min(1.0, chance)}
        interval = bootstrap_mean(hits)
        yield Figure(metric, subject, "captions", float(hits.mean()), None, n, n, interval=interval, details=details)


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
