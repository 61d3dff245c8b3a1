"""What happened in a drill, in seconds since its start: all that its table and its plot are made from."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """A request's answer: when it was asked for, for how long it was waited for, and what was wrong with it."""

    asked: float
    seconds: float
    fault: str = ""


@dataclass(frozen=True)
class Sample:
    """What runs at a moment: nodes by type, replicas by deployment, and whether the head answers."""

    at: float
    nodes: dict[str, int]
    replicas: dict[str, int]
    has_head: bool


@dataclass
class Stage:
    """One submission of a job: ``ended`` is None while it runs, ``outcome`` Ray's word for how it has ended."""

    job: str
    run: str
    began: float
    ended: float | None = None
    outcome: str = ""


@dataclass(frozen=True)
class Event:
    """Something that was done to the cluster.

    Attributes:
        name: what was done.
        at: when.
        noticed: when the cluster knew; None if nobody is there to know.
        whole: when all was there again.
        told: what came of it, for the table.
    """

    name: str
    at: float
    noticed: float | None
    whole: float
    told: str = ""


@dataclass
class Timeline:
    """All that is recorded."""

    start: float = field(default_factory=time.monotonic)
    answers: list[Answer] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def between(self, begin: float, end: float) -> list[Answer]:
        """The answers to requests that were waiting at some time between two moments."""
        return [each for each in list(self.answers) if each.asked < end and each.asked + each.seconds > begin]

    def faults(self) -> Counter[str]:
        """What was wrong with answers, and how often."""
        return Counter(each.fault for each in self.answers if each.fault)
