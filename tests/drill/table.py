"""The drill's table: what was done, when it was noticed, when all was there again, and what clients saw meanwhile."""

from __future__ import annotations

from tests.drill.timeline import Event, Timeline

HEADER = ("done", "noticed after", "whole after", "answers meanwhile", "longest wait", "lost")


def table(timeline: Timeline) -> str:
    """Return the table in Markdown."""
    rows = [HEADER, ("---",) * len(HEADER), *(_row(event, timeline) for event in timeline.events)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(event: Event, timeline: Timeline) -> tuple[str, ...]:
    answers = timeline.between(event.at, event.whole)
    longest = max((answer.seconds for answer in answers), default=0.0)
    noticed = "" if event.noticed is None else f"{event.noticed - event.at:.0f} s"
    lost = sum(bool(answer.fault) for answer in answers)
    return event.name, noticed, f"{event.whole - event.at:.0f} s", str(len(answers)), f"{longest:.0f} s", str(lost)
