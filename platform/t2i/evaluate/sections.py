"""One caption set's part of the report, and what its tables and plots ask of the figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from t2i.evaluate.figures import SUBJECT_LABELS, Figure
from t2i.evaluate.gallery import CaptionCard, Galleries
from t2i.evaluate.histograms import CosineHistogram
from t2i.evaluate.metric_titles import PEER, MetricTitle, tables, title_of
from t2i.evaluate.overlap import SUBJECT
from t2i.evaluate.protocol_words import in_words
from t2i.evaluate.sweep import set_name, sweep_sizes

HEADLINES = ("fid", "fd", "kid", "is", "clip_score", "clip_r_precision", "precision", "clip_r@1", "clip_r@10")
"""Metrics, without the extractor's name, of which the first :data:`SHOWN_HEADLINES` that were measured stand on top."""

SHOWN_HEADLINES = 6
SWEPT = ("clip_score", "fid", "fd", "is")
BLURRED = ("fid", "fd", "is", "kid")


@dataclass(frozen=True)
class Section:
    """What was measured of one caption set, under which protocol, what to beware of, and what is shown.

    ``best_of_n`` is the expected best CLIP cosine of 1, 2, ... candidates; empty if candidates were pruned.
    """

    name: str
    protocol: dict[str, Any]
    cautions: list[str]
    figures: list[Figure]
    best_of_n: list[float]
    cosines: CosineHistogram
    galleries: Galleries
    cards: dict[str, CaptionCard]

    @property
    def words(self) -> list[str]:
        """The protocol in sentences, a paragraph each."""
        return in_words(self.protocol)

    @property
    def extractor(self) -> str:
        """Name of the extractor, which stands in the names of its metrics unless they are FID's own."""
        return str(self.protocol["extractor"]["name"])

    @property
    def tables(self) -> dict[str, list[str]]:
        """Title of a table -> its metrics."""
        return tables((figure.metric for figure in self.figures), self.extractor)

    @property
    def headlines(self) -> list[str]:
        """Metrics that stand on top."""
        return self.named(HEADLINES)[:SHOWN_HEADLINES]

    @property
    def swept(self) -> list[str]:
        """Metrics that are shown for the best of 1, 2, 4, ... candidates; none if there was no choice."""
        return self.named(SWEPT) if len(self.sweep) > 1 else []

    @property
    def sweep(self) -> list[tuple[int, str]]:
        """Numbers of candidates, and the image set with the best of so many."""
        candidates = self.protocol["candidates"]
        sizes = sweep_sizes(candidates, pruned=self.protocol["pruning"] is not None)
        return [(size, set_name(size, candidates)) for size in sizes]

    @property
    def radii(self) -> list[float]:
        """Radii of blur in pixels, 0 first."""
        radii: list[float] = self.protocol["blur_radii"]
        return radii

    @property
    def blurred(self) -> list[str]:
        """Metrics that are shown against the radius of blur; none if nothing was blurred."""
        return self.named(BLURRED) if len(self.radii) > 1 else []

    @property
    def elb_terms(self) -> list[tuple[str, Figure]]:
        """Names and figures of the evidence lower bound and its terms; empty if it was not measured."""
        figures = [figure for figure in self.figures if figure.metric.startswith("elb_")]
        return [(figure.metric.removeprefix("elb_").replace("_", " "), figure) for figure in figures]

    @property
    def peers(self) -> list[tuple[str, Figure]]:
        """Titles and figures of what torch-fidelity computed of the same features; empty without it."""
        found = [figure for figure in self.figures if figure.metric.endswith(PEER)]
        return [(self.title(figure.metric.removesuffix(PEER)).title, figure) for figure in found]

    @property
    def overlap(self) -> Mapping[str, int | float | str] | None:
        """How many real images are too near to training images, and how that was found; None if it was not asked."""
        found = (figure for figure in self.figures if figure.subject == SUBJECT)
        return next((figure.details for figure in found), None)

    def named(self, plain: Iterable[str]) -> list[str]:
        """Return the names, with the extractor's where it belongs, of those metrics that were measured."""
        measured = {figure.metric for figure in self.figures}
        names = [name for metric in plain for name in (metric, f"{metric}_{self.extractor}")]
        return [name for name in names if name in measured]

    def title(self, metric: str) -> MetricTitle:
        """Return what the report calls a metric."""
        return title_of(metric, self.extractor)

    def figure(self, metric: str, subject: str, radius: float = 0.0) -> Figure | None:
        """Return one figure; None if it was not measured."""
        found = (f for f in self.figures if (f.metric, f.subject, f.blur) == (metric, subject, radius))
        return next(found, None)

    def figures_of(self, metric: str, radius: float = 0.0) -> list[Figure]:
        """Return the figures of one metric at one radius of blur, in the order of :data:`SUBJECT_LABELS`."""
        found = (self.figure(metric, subject, radius) for subject in SUBJECT_LABELS)
        return [figure for figure in found if figure is not None]

    def subjects(self, metrics: Iterable[str]) -> list[str]:
        """Return the image sets of which one of the metrics was measured, in the order of :data:`SUBJECT_LABELS`."""
        measured = {figure.subject for metric in metrics for figure in self.figures_of(metric)}
        return [subject for subject in SUBJECT_LABELS if subject in measured]

    def methods(self, metrics: Iterable[str]) -> dict[str, list[str]]:
        """Return how the metrics' intervals were found -> titles of the metrics."""
        methods: dict[str, list[str]] = {}
        for metric in metrics:
            for interval in (figure.interval for figure in self.figures_of(metric)):
                if interval is not None:
                    methods.setdefault(interval.method, []).append(self.title(metric).title)
        return {method: list(dict.fromkeys(titles)) for method, titles in methods.items()}

    def as_json(self) -> dict[str, Any]:
        """Return everything but the pictures, for programs."""
        return {
            "name": self.name,
            "protocol": self.protocol,
            "protocol_in_words": self.words,
            "cautions": self.cautions,
            "figures": [asdict(figure) for figure in self.figures],
            "expected_best_cosine_of_n": self.best_of_n,
            "cosine_histogram": asdict(self.cosines),
        }
