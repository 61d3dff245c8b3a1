"""The plots of a plan, as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import matplotlib.figure
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes

from t2i.simulate.fleets import apart, capacity
from t2i.simulate.outcomes import Outcome
from t2i.simulate.simulation import Run
from t2i.simulate.studies import LARGE, SCALED_GPUS, SPLIT_GPUS, ZONE_LOST_S, Planned

RED, BLUE, GREEN, GREY = "#c2572b", "#3f83b5", "#5d9a3a", "#8c93a1"
BIN_S = 5.0
"""Seconds of requests that a point of a course over time stands for."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "capacity",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.markersize": 4,
}


@rc_context(STYLE)
def throughput(runs: Mapping[tuple[int, float], Run], candidates: int) -> str:
    """Return images a second against the number of GPUs, for each load, beside the line of the first fleet."""
    plot, (axes,) = _panels(1)
    sizes, loads = list(dict.fromkeys(gpus for gpus, _ in runs)), list(dict.fromkeys(load for _, load in runs))
    for load, colour in zip(loads, (GREEN, BLUE, RED), strict=False):
        images = [candidates * runs[gpus, load].answers_per_second for gpus in sizes]
        axes.loglog(sizes, images, color=colour, marker="o", label=f"at {load:.0%} of what it can answer")
    first = candidates * runs[sizes[0], loads[-1]].answers_per_second / sizes[0]
    axes.loglog(sizes, [first * gpus for gpus in sizes], color=GREY, linestyle="--", label=f"{sizes[0]} GPU, times n")
    axes.set_xticks(sizes, [str(gpus) for gpus in sizes])
    axes.minorticks_off()
    axes.set_xlabel("GPUs")
    axes.set_ylabel("images a second")
    axes.legend()
    return _svg(plot)


@rc_context(STYLE)
def overload(runs: Mapping[float, Run], candidates: int) -> str:
    """Return images a second and seconds to an answer against the load, up to far more than can be answered."""
    plot, (answered, waited) = _panels(2)
    loads = list(runs)
    asked = [candidates * run.load.rate for run in runs.values()]
    answers = [candidates * run.answers_per_second for run in runs.values()]
    answered.plot(loads, asked, color=GREY, linestyle="--", label="asked for")
    answered.plot(loads, answers, color=RED, marker="o", label="answered")
    answered.set_ylabel("images a second")
    for percent, colour in ((50, BLUE), (95, RED)):
        seconds = [run.counted.seconds_of(percent) for run in runs.values()]
        waited.plot(loads, seconds, color=colour, marker="o", label=f"{percent} % of the answers")
    waited.set_ylabel("seconds")
    waited.set_ylim(bottom=0)
    for axes in (answered, waited):
        axes.set_xlabel("load, in parts of what can be answered")
        axes.legend()
    return _svg(plot)


@rc_context(STYLE)
def splits(runs: Mapping[int, Run], planned: Planned) -> str:
    """Return what GPUs answer, by how many of them have no prior, beside what the stage that is full first can."""
    plot, (axes,) = _panels(1)
    images, behind = planned.request.candidates, list(runs)
    full = [images * capacity(apart(SPLIT_GPUS, each, planned.work), planned.work) for each in behind]
    axes.plot(behind, full, color=GREY, linestyle="--", label="the fullest stage's capacity")
    answers = [images * run.answers_per_second for run in runs.values()]
    axes.plot(behind, answers, color=RED, marker="o", label="simulated")
    axes.set_xticks(behind)
    axes.set_xlabel(f"GPUs, of {SPLIT_GPUS}, with decoder and reranker")
    axes.set_ylabel("images a second")
    axes.set_ylim(bottom=0)
    axes.legend()
    return _svg(plot)


@rc_context(STYLE)
def lost_zone(runs: Mapping[float, Run]) -> str:
    """Return what clients see of a lost zone over time, by load."""
    plot, (waited, lost) = _panels(2)
    for (load, run), colour in zip(runs.items(), (BLUE, RED), strict=False):
        begins = np.arange(run.load.uncounted, run.load.seconds, BIN_S)
        seen = [run.all.arrived(begin, begin + BIN_S) for begin in begins]
        waited.plot(begins, [each.seconds_of(95) for each in seen], color=colour, label=f"{load:.0%} load")
        missing = [100 * (1 - each.share(Outcome.ANSWERED)) for each in seen]
        lost.plot(begins, missing, color=colour, label=f"{load:.0%} load")
    waited.set_ylabel("seconds to 95 % of the answers")
    waited.set_ylim(bottom=0)
    lost.set_ylabel("% without an answer")
    lost.set_ylim(0, 100)
    for axes in (waited, lost):
        axes.axvline(ZONE_LOST_S, color=GREY, linestyle="--")
        axes.set_xlabel("seconds at which requests came")
        axes.legend()
    return _svg(plot)


@rc_context(STYLE)
def scaling(runs: Mapping[tuple[str, bool], Run], planned: Planned) -> str:
    """Return the priors that are held, and that the load would keep busy, over a day and a burst."""
    names = list(dict.fromkeys(name for name, _ in runs))
    seconds = planned.costs.prior.request_s(LARGE)
    plot, panels = _panels(len(names))
    for name, axes in zip(names, panels, strict=True):
        run = runs[name, True]
        moments = np.linspace(0, run.load.seconds, 200, endpoint=False)
        busy = [run.load.rate_at(moment) * seconds for moment in moments]
        axes.plot(moments / 60, busy, color=GREY, linestyle="--", label="kept busy by the load")
        held = [(begin / 60, priors) for begin, priors in run.priors if begin < run.load.seconds]
        axes.step(*zip(*held, strict=True), where="post", color=RED, label="held")
        axes.set_xlabel(f"minutes of the {name}")
        axes.set_ylim(0, SCALED_GPUS + 1)
        axes.legend(loc="upper left")
    panels[0].set_ylabel("priors")
    return _svg(plot)


def _panels(count: int) -> tuple[matplotlib.figure.Figure, list[Axes]]:
    """Return an empty plot of panels side by side, made without pyplot, which would keep every plot in memory."""
    plot = matplotlib.figure.Figure(figsize=(4.6 * count + 0.4, 3.4), layout="constrained")
    return plot, list(np.atleast_1d(plot.subplots(1, count)))


def _svg(plot: matplotlib.figure.Figure) -> str:
    """Return a plot as an SVG file, the same for the same plot; its background is white, as pages may be dark."""
    buffer = io.StringIO()
    plot.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
