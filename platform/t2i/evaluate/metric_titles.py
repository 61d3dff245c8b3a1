"""What the report calls each metric, in which table it stands, and which way is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

DISTANCES, VARIETY, CAPTIONS, OTHERS = (
    "Distance from the real images",
    "Quality and variety",
    "Fit to the captions",
    "Other figures",
)
"""The tables, in the report's order."""

PEER = "_torch_fidelity"
"""Ends the names of figures that torch-fidelity computed of the same features."""


@dataclass(frozen=True)
class MetricTitle:
    """The ``title`` of a metric, the ``table`` it belongs to, whether higher is better, and its meaning in words."""

    title: str
    table: str
    higher_is_better: bool
    meaning: str

    @property
    def heading(self) -> str:
        """The title with an arrow that points to the better side."""
        return f"{self.title}\N{NO-BREAK SPACE}{'↑' if self.higher_is_better else '↓'}"


_FRECHET = "Fréchet distance of two Gaussians fitted to the features"
_SCORE = "inception score: class probabilities that are sharp for each image and varied over all"
TITLES = {
    "fid": MetricTitle("FID", DISTANCES, False, _FRECHET),
    "fd": MetricTitle("FD", DISTANCES, False, f"{_FRECHET}; another network than FID's"),
    "fid_infinity": MetricTitle("FID∞", DISTANCES, False, "FID extrapolated to infinitely many drawn images"),
    "fd_infinity": MetricTitle("FD∞", DISTANCES, False, "FD extrapolated to infinitely many drawn images"),
    "kid": MetricTitle("KID", DISTANCES, False, "kernel distance of the features; not biased by the number of images"),
    "cmmd": MetricTitle("CMMD", DISTANCES, False, "kernel distance of CLIP's features, times 1000"),
    "mind": MetricTitle(
        "MIND", DISTANCES, False, "squared Wasserstein distance of the features along random directions"
    ),
    "precision": MetricTitle("precision", VARIETY, True, "share of the images that lie among the real ones"),
    "recall": MetricTitle("recall", VARIETY, True, "share of the real images that lie among these"),
    "density": MetricTitle("density", VARIETY, True, "how many real neighbourhoods an image lies in; 1 is usual"),
    "coverage": MetricTitle("coverage", VARIETY, True, "share of the real images with one of these near by"),
    "is": MetricTitle("IS", VARIETY, True, f"{_SCORE}; shuffled splits"),
    "is_ordered": MetricTitle("IS, ordered", VARIETY, True, "the same with splits in the captions' order"),
    "clip_score": MetricTitle("CLIP score", CAPTIONS, True, "2.5 times the cosine of image and caption, at least 0"),
    "clip_r@1": MetricTitle("R@1", CAPTIONS, True, "share of the images whose own caption CLIP ranks first of all"),
    "clip_r@10": MetricTitle("R@10", CAPTIONS, True, "share whose own caption is among the first ten of all"),
    "clip_r_precision": MetricTitle("R-precision", CAPTIONS, True, "share whose own caption beats up to 99 others"),
}


def title_of(metric: str, extractor: str) -> MetricTitle:
    """Return the title of a metric; the name of the ``extractor`` stands in it where it does in the metric's name."""
    plain = metric.replace(f"_{extractor}", "")
    known = TITLES.get(plain, MetricTitle(plain.replace("_", " "), OTHERS, True, ""))
    return known if plain == metric else replace(known, title=f"{known.title} ({extractor})")


def tables(metrics: Iterable[str], extractor: str) -> dict[str, list[str]]:
    """Return the metrics of each table, in the order of :data:`TITLES`; unknown ones come last, in one of their own."""
    order = list(TITLES)
    listed = [metric for metric in dict.fromkeys(metrics) if not _is_elsewhere(metric)]

    def place(metric: str) -> int:
        plain = metric.replace(f"_{extractor}", "")
        return order.index(plain) if plain in order else len(order)

    by_table: dict[str, list[str]] = {table: [] for table in (DISTANCES, VARIETY, CAPTIONS, OTHERS)}
    for metric in sorted(listed, key=place):
        by_table[title_of(metric, extractor).table].append(metric)
    return {table: found for table, found in by_table.items() if found}


def _is_elsewhere(metric: str) -> bool:
    """Return whether a metric stands in none of the tables: the cosine says what the CLIP score says."""
    return metric == "clip_cosine" or metric.startswith("elb_") or metric.endswith(PEER)
