"""The report's plots as inline SVG, which takes the colours of text and lines from the page, light or dark."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes

from t2i.evaluate.figures import SUBJECT_LABELS, Figure

INK = "#010203"
"""Stands for the page's own text colour: replaced by ``currentColor`` in the SVG."""

BEST_COLOUR, OTHER_COLOUR = "#c2572b", "#8c93a1"
LINE_COLOURS = ["#c2572b", "#2f6f9f", "#5d8a3a", "#8a5ea8", "#b08a1e", "#5b6472"]
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
}


@rc_context(STYLE)
def bar_chart(figures: Sequence[Figure], label: str) -> str:
    """Return a bar chart of one metric of several subjects, horizontal bars with their spread, as SVG."""
    plot, axes = _empty_plot(6.4, 0.9 + 0.36 * len(figures))
    values = [figure.value for figure in figures]
    colours = [BEST_COLOUR if figure.subject == "best" else OTHER_COLOUR for figure in figures]
    places = np.arange(len(figures))[::-1]
    spread = [figure.spread or 0.0 for figure in figures]
    axes.barh(places, values, xerr=spread, color=colours, height=0.62, error_kw={"ecolor": INK, "elinewidth": 1})
    axes.set_yticks(places, [SUBJECT_LABELS[figure.subject] for figure in figures])
    edge = max(value + deviation for value, deviation in zip(values, spread, strict=True))
    for place, value, deviation in zip(places, values, spread, strict=True):
        axes.text(max(value + deviation, 0) + 0.015 * edge, place, f"{value:.4g}", va="center")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel(label)
    axes.margins(x=0.12)
    return _svg(plot)


@rc_context(STYLE)
def best_of_n_plot(curve: Sequence[float]) -> str:
    """Return a plot of the expected best CLIP cosine against the number of candidates to choose from, as SVG."""
    plot, axes = _empty_plot(6.4, 2.9)
    n = np.arange(1, len(curve) + 1)
    axes.plot(n, curve, color=BEST_COLOUR, marker="o", markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks := [2**power for power in range(int(np.log2(len(curve))) + 1)], [str(t) for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("candidates N (the best by CLIP is kept)")
    axes.set_ylabel("mean best CLIP cosine")
    axes.grid(alpha=0.25)
    return _svg(plot)


@rc_context(STYLE)
def blur_plot(curves: Mapping[str, Sequence[Figure]], label: str) -> str:
    """Return a plot of one metric against the radius of blur, with a line for each subject, as SVG."""
    plot, axes = _empty_plot(6.4, 3.2)
    for colour, (subject, figures) in zip(LINE_COLOURS, curves.items(), strict=False):
        radii, values = [f.blur for f in figures], [f.value for f in figures]
        axes.plot(radii, values, color=colour, marker="o", markersize=4, label=SUBJECT_LABELS[subject])
    axes.set_xlabel("radius of blur, px")
    axes.set_ylabel(label)
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    return _svg(plot)


def _empty_plot(width: float, height: float) -> tuple[matplotlib.figure.Figure, Axes]:
    """Return an empty plot of a size in inches, made without pyplot, which would keep every plot in memory."""
    plot = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
    return plot, plot.add_subplot()


def _svg(plot: matplotlib.figure.Figure) -> str:
    """Return a plot's SVG element, without the XML declaration that must not stand inside a page."""
    buffer = io.StringIO()
    plot.savefig(buffer, format="svg", transparent=True)
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")
