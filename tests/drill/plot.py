"""The drill as one picture: answers, waits, nodes, replicas and jobs over time, with all that was done as lines."""

from __future__ import annotations

from pathlib import Path

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes

from tests.drill.settings import BATCH, BURST, CORE
from tests.drill.timeline import Timeline

COLOURS = {CORE: "#3f83b5", BURST: "#c2572b", BATCH: "#d9a441"}
REPLICAS = {"gateway": "#8c93a1", "prior": "#c2572b", "decoder": "#3f83b5", "reranker": "#5d9a3a"}
OUTCOMES = {"SUCCEEDED": "#5d9a3a"}
OTHER = "#c2572b"
WINDOW_S = 5.0
"""Of the rates of answers."""


def plot(timeline: Timeline, file: Path) -> None:
    """Write the picture; by its suffix as PNG or SVG."""
    figure = matplotlib.figure.Figure(figsize=(11, 9.5), layout="constrained")
    panels = figure.subplots(5, 1, sharex=True, height_ratios=[2, 2, 1.5, 1.5, 1.2])
    for draw, axes in zip((_rates, _waits, _nodes, _replicas, _jobs), panels, strict=True):
        draw(axes, timeline)
        axes.spines[["top", "right"]].set_visible(False)
    for number, event in enumerate(timeline.events, start=1):
        for axes in panels:
            axes.axvspan(event.at, event.whole, color="#000000", alpha=0.06, linewidth=0)
            axes.axvline(event.at, color="#000000", linewidth=0.8, linestyle="--")
        panels[0].annotate(f"{number}", (event.at, 1), xycoords=("data", "axes fraction"), fontsize=9, va="bottom")
    names = [f"{number} {event.name}" for number, event in enumerate(timeline.events, start=1)]
    figure.suptitle("   ".join(names[:5]) + "\n" + "   ".join(names[5:]), fontsize=9)
    panels[-1].set_xlabel("seconds")
    figure.savefig(file, dpi=100)


def _rates(axes: Axes, timeline: Timeline) -> None:
    ends = np.array([answer.asked + answer.seconds for answer in timeline.answers])
    asked = np.array([answer.asked for answer in timeline.answers])
    edges = np.arange(0, ends.max() + WINDOW_S, WINDOW_S)
    for times, name, colour in ((asked, "requests", "#8c93a1"), (ends, "answers", "#5d9a3a")):
        axes.stairs(np.histogram(times, edges)[0] / WINDOW_S, edges, label=name, color=colour)
    lost = [answer.asked + answer.seconds for answer in timeline.answers if answer.fault]
    axes.plot(lost, np.zeros(len(lost)), "x", color=OTHER, label=f"lost: {len(lost)}")
    axes.set_ylabel("a second")
    axes.legend(loc="upper left", fontsize=8)


def _waits(axes: Axes, timeline: Timeline) -> None:
    asked, seconds = zip(*((answer.asked, answer.seconds) for answer in timeline.answers), strict=True)
    axes.semilogy(asked, seconds, ".", markersize=2, color="#3f83b5")
    axes.set_ylabel("wait, s")


def _nodes(axes: Axes, timeline: Timeline) -> None:
    times = [sample.at for sample in timeline.samples]
    rows = [[sample.nodes.get(name, 0) for sample in timeline.samples] for name in COLOURS]
    axes.stackplot(times, rows, labels=list(COLOURS), colors=list(COLOURS.values()), step="post", alpha=0.8)
    axes.fill_between(
        times, -0.6, -0.1, where=[sample.has_head for sample in timeline.samples], color="#444444", label="head"
    )
    axes.set_ylabel("nodes")
    axes.legend(loc="upper left", fontsize=8, ncols=4)


def _replicas(axes: Axes, timeline: Timeline) -> None:
    times = [sample.at for sample in timeline.samples]
    for place, (name, colour) in enumerate(REPLICAS.items()):
        counts = np.array([sample.replicas.get(name, 0) for sample in timeline.samples])
        axes.step(times, counts + 0.06 * place, where="post", color=colour, label=name)
    axes.set_ylabel("replicas")
    axes.legend(loc="upper left", fontsize=8, ncols=4)


def _jobs(axes: Axes, timeline: Timeline) -> None:
    runs = list(dict.fromkeys(stage.run for stage in timeline.stages))
    for stage in timeline.stages:
        length = (stage.ended or timeline.now()) - stage.began
        colour = OUTCOMES.get(stage.outcome, OTHER)
        axes.barh(runs.index(stage.run), length, left=stage.began, height=0.6, color=colour, edgecolor="white")
        axes.annotate(stage.job.partition("_")[0], (stage.began, runs.index(stage.run)), fontsize=8, va="center")
    axes.set_yticks(range(len(runs)), runs)
    axes.set_ylabel("jobs")
