"""The report's plots as inline SVG, which takes the colours of text and lines from the page, light or dark."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes

from t2i.evaluate.figures import Figure
from t2i.evaluate.histograms import CosineHistogram

INK = "#010203"
"""Stands for the page's own text colour: replaced by ``currentColor`` in the SVG."""

WIDTH = 4.4
"""Of a plot in inches: its text is as large as the page's on a phone, where a plot is as wide as the screen."""

LABELS = {
    "best": "best by CLIP",
    "best_distinct": "without near-copies",
    "first": "first drawn",
    "reconstruction": "dVAE reconstructions",
    "train": "training images",
    "shuffled": "captions shuffled",
    "random_tokens": "random tokens",
    "real": "real images",
}
COLOURS = {"best": "#c2572b", "first": "#d9a441", "reconstruction": "#5d9a3a", "train": "#8a6ec0", "real": "#3f83b5"}
OTHER_COLOUR = "#8c93a1"
PUBLISHED_MARKERS = "sv^Dx"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.markersize": 4,
}


@rc_context(STYLE)
def bar_chart(figures: Sequence[Figure]) -> str:
    """Return horizontal bars of one metric of several image sets, with their intervals, as SVG."""
    plot, axes = _empty_plot(0.6 + 0.34 * len(figures))
    values, places = [figure.value for figure in figures], np.arange(len(figures))[::-1]
    ends = [_ends(figure) for figure in figures]
    colours = [COLOURS["best"] if figure.subject == "best" else OTHER_COLOUR for figure in figures]
    errors = np.abs(np.array(ends).T - values)
    axes.barh(places, values, xerr=errors, color=colours, height=0.62, error_kw={"ecolor": INK, "elinewidth": 1})
    axes.set_yticks(places, [LABELS[figure.subject] for figure in figures])
    edge = max(high for _, high in ends)
    for place, value, (_, high) in zip(places, values, ends, strict=True):
        axes.text(max(high, 0) + 0.02 * edge, place, f"{value:.3g}", va="center")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.margins(x=0.2)
    return _svg(plot)


@rc_context(STYLE)
def histogram_plot(histogram: CosineHistogram) -> str:
    """Return the shares of each image set's images in the bins of the CLIP cosine, as SVG."""
    plot, axes = _empty_plot(2.8)
    for subject, counts in histogram.counts.items():
        shares = np.array(counts) / sum(counts)
        axes.stairs(shares, histogram.edges, color=COLOURS[subject], label=LABELS[subject], linewidth=1.6)
    axes.set_xlabel("CLIP cosine")
    axes.set_ylabel("share of the images")
    plot.legend(loc="outside lower center", ncols=3)
    return _svg(plot)


@rc_context(STYLE)
def sweep_plot(figures: Mapping[int, Figure]) -> str:
    """Return one metric of the best of N candidates against N, with its intervals where there are any, as SVG."""
    plot, axes = _empty_plot(2.6)
    sizes, values = list(figures), [figure.value for figure in figures.values()]
    errors = np.abs(np.array([_ends(figure) for figure in figures.values()]).T - values)
    axes.errorbar(sizes, values, yerr=errors, color=COLOURS["best"], ecolor=INK, elinewidth=0.8, marker="o", capsize=2)
    _candidates_axis(axes, sizes)
    return _svg(plot)


@rc_context(STYLE)
def best_of_n_plot(curve: Sequence[float]) -> str:
    """Return a plot of the expected best CLIP cosine against the number of candidates to choose from, as SVG."""
    plot, axes = _empty_plot(2.6)
    n = np.arange(1, len(curve) + 1)
    axes.plot(n, curve, color=COLOURS["best"])
    _candidates_axis(axes, [*(2**power for power in range(len(curve).bit_length()) if 2**power < len(curve)), n[-1]])
    return _svg(plot)


@rc_context(STYLE)
def blur_plot(curves: Mapping[str, Sequence[Figure]], published: Mapping[str, Mapping[float, float]]) -> str:
    """Return one metric of each image set against the radius of blur, beside ``published`` values, as SVG."""
    plot, axes = _empty_plot(4.2 if published else 3.2)
    for model, marker in zip(published, PUBLISHED_MARKERS, strict=True) if published else ():
        radii, values = zip(*published[model].items(), strict=True)
        axes.plot(radii, values, color=OTHER_COLOUR, marker=marker, linestyle="--", linewidth=1, label=f"{model}*")
    for subject, figures in curves.items():
        radii, values = zip(*((figure.blur, figure.value) for figure in figures), strict=True)
        axes.plot(radii, values, color=COLOURS[subject], marker="o", label=LABELS[subject])
    axes.set_xticks(sorted({figure.blur for figures in curves.values() for figure in figures}))
    axes.set_xlabel("radius of blur, px")
    axes.grid()
    plot.legend(loc="outside lower center", ncols=2)
    return _svg(plot)


def _candidates_axis(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("N candidates, the best by CLIP kept")
    axes.grid()


def _ends(figure: Figure) -> tuple[float, float]:
    """Return from where to where a figure's error bar goes: its interval, or one ``spread`` to both sides."""
    if figure.interval is not None:
        return min(figure.interval.low, figure.value), max(figure.interval.high, figure.value)
    return figure.value - (figure.spread or 0.0), figure.value + (figure.spread or 0.0)


def _empty_plot(height: float) -> tuple[matplotlib.figure.Figure, Axes]:
    """Return an empty plot of a height in inches, made without pyplot, which would keep every plot in memory."""
    plot = matplotlib.figure.Figure(figsize=(WIDTH, height), layout="constrained")
    return plot, plot.add_subplot()


def _svg(plot: matplotlib.figure.Figure) -> str:
    """Return a plot's SVG element, without the XML declaration that must not stand inside a page."""
    buffer = io.StringIO()
    plot.savefig(buffer, format="svg", transparent=True)
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")
