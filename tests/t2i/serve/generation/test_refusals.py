from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from t2i.sampling import SamplingParams
from t2i.serve.generation import refusals as module
from t2i.serve.generation.refusals import HOLD_S, Refusals
from t2i.serve.messages import CaptionRequest, QueueFullError

WANTED = CaptionRequest("id", "x", "a taco", 4, 0, SamplingParams(), (1, 2), deadline=100.0)
LATE_S = 7.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time now, in a list."""
    now = [50.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now[0]))
    return now


@pytest.fixture
def refusals(clock: list[float]) -> Refusals:  # noqa: ARG001 - the time at which it is noted
    refusals = Refusals()
    refusals.note(WANTED, LATE_S)
    return refusals


@pytest.mark.parametrize(
    ("change", "late_s"),
    [
        ({}, LATE_S),
        ({"candidates": 5}, LATE_S),
        ({"prefix": ()}, LATE_S),
        ({"sampling": SamplingParams(guidance=2.0)}, LATE_S),
        ({"deadline": 103.0}, LATE_S - 3),
        ({"deadline": 98.0}, LATE_S + 2),
        ({"deadline": 103.0, "ranking_s": 1.0}, LATE_S - 2),
    ],
)
def test_who_asks_for_as_much_or_more_is_refused_too(
    refusals: Refusals, change: dict[str, object], late_s: float
) -> None:
    with pytest.raises(QueueFullError) as refused:
        refusals.check(replace(WANTED, **change))  # type: ignore[arg-type]
    assert math.isclose(refused.value.late_s, late_s)


@pytest.mark.parametrize(
    "change", [{"client": "y"}, {"candidates": 3}, {"prefix": (1, 2, 3)}, {"deadline": 100.0 + LATE_S}]
)
def test_the_prior_is_asked_for_less_for_more_time_and_for_others(
    refusals: Refusals, change: dict[str, object]
) -> None:
    refusals.check(replace(WANTED, **change))  # type: ignore[arg-type]


def test_a_refusal_holds_for_a_moment(refusals: Refusals, clock: list[float]) -> None:
    clock[0] += HOLD_S
    refusals.check(WANTED)
