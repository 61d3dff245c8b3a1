"""Which plots a section of the report has, for the figures that were measured."""

from __future__ import annotations

from t2i.evaluate import plots
from t2i.evaluate.figures import Figure
from t2i.evaluate.published import published_curves
from t2i.evaluate.sections import Section

BLUR_SUBJECTS = ("best", "first", "reconstruction", "train", "real")
"""Image sets in the plots against blur; beside random tokens the others would lie on one line."""


def section_plots(section: Section) -> dict[str, dict[str, str]]:
    """Return part of the section -> title -> SVG; a part whose figures were not measured has none."""
    return {"controls": _controls(section), "sweep": _sweep(section), "blur": _blur(section)}


def _controls(section: Section) -> dict[str, str]:
    bars = {
        section.title(metric).heading: plots.bar_chart(section.figures_of(metric))
        for metric in section.named(("kid", "clip_score"))
    }
    return bars | {"CLIP cosine of images and their captions": plots.histogram_plot(section.cosines)}


def _sweep(section: Section) -> dict[str, str]:
    if not section.swept:
        return {}
    drawn = {}
    for metric in section.swept:
        figures = {size: section.figure(metric, subject) for size, subject in section.sweep}
        drawn[section.title(metric).heading] = plots.sweep_plot({n: f for n, f in figures.items() if f is not None})
    return drawn | {"CLIP cosine, expected over all choices of N ↑": plots.best_of_n_plot(section.best_of_n)}


def _blur(section: Section) -> dict[str, str]:
    return {
        section.title(metric).heading: plots.blur_plot(_by_radius(section, metric), published_curves(metric))
        for metric in section.blurred
    }


def _by_radius(section: Section, metric: str) -> dict[str, list[Figure]]:
    """Return the figures of one metric at all radii of blur, by image set."""
    found = {
        subject: [section.figure(metric, subject, radius) for radius in section.radii] for subject in BLUR_SUBJECTS
    }
    present = {subject: [f for f in figures if f is not None] for subject, figures in found.items()}
    return {subject: figures for subject, figures in present.items() if figures}
