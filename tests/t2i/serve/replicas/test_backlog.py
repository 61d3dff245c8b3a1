"""Who can meet a deadline, and how long requests take when clients share the slots."""

from __future__ import annotations

import math

import pytest

from t2i.engine import Request
from t2i.sampling import SamplingParams
from t2i.serve.messages import QueueFullError
from t2i.serve.replicas.backlog import SLACK, Backlog

IMAGE = 10
"""Tokens of an image; a step takes a second."""


def request(name: str, candidates: int, client: str = "", deadline: float = math.inf, guidance: float = 1.0) -> Request:
    sampling = SamplingParams(guidance=guidance)
    return Request(name, (1,), candidates, seed=0, sampling=sampling, client=client, deadline=deadline)


def backlog_of(*requests: Request, slots: int = 2) -> Backlog:
    backlog = Backlog(slots, IMAGE, seconds_per_step=1.0)
    for each in requests:
        backlog.add(each)
    return backlog


def test_of_others_only_as_much_as_ones_own_comes_first() -> None:
    backlog = backlog_of(request("a", 1, "x"), request("b", 100, "y"), request("c", 2, "z"))
    assert backlog.seconds_left("a") == (10 + 10 + 10) / 2
    assert backlog.seconds_left("c") == (20 + 20 + 10) / 2
    assert backlog.seconds_left("b") == (1000 + 10 + 20) / 2


def test_a_clients_own_requests_add_up() -> None:
    backlog = backlog_of(request("a", 2, "x"), request("b", 4, "x"))
    assert backlog.seconds_left("a") == backlog.seconds_left("b") == (20 + 40) / 2


def test_an_image_takes_its_tokens_however_many_slots_are_idle() -> None:
    assert backlog_of(request("a", 1), slots=64).seconds_left("a") == IMAGE


def test_drafts_that_come_true_shorten_an_image_but_not_what_all_slots_have_to_do() -> None:
    backlog = backlog_of(request("a", 1), slots=64)
    backlog.note_steps(1.0, steps=1000, tokens=4.0)
    assert backlog.seconds_left("a") == pytest.approx(IMAGE / 4)
    backlog.add(request("b", 128))
    assert backlog.seconds_left("b") == pytest.approx(129 * IMAGE / 64)


def test_guided_candidates_take_two_slots() -> None:
    assert backlog_of(request("a", 2, guidance=3.0)).seconds_left("a") == 2 * 2 * IMAGE / 2


def test_what_would_be_late_is_refused_with_how_late() -> None:
    backlog = backlog_of(request("a", 4, "x"))
    with pytest.raises(QueueFullError) as refused:
        backlog.check(request("b", 2, "y", deadline=15.0), now=0.0)
    assert refused.value.late_s == SLACK * (20 + 20) / 2 - 15
    backlog.check(request("c", 2, "y", deadline=SLACK * 20.0), now=0.0)


def test_ranking_takes_time_as_well() -> None:
    backlog = backlog_of(request("a", 4, "x"))
    with pytest.raises(QueueFullError) as refused:
        backlog.check(request("b", 2, "y", deadline=SLACK * 20.0), now=0.0, ranking_s=3.0)
    assert refused.value.late_s == 3.0
    backlog.check(request("b", 2, "y", deadline=SLACK * 20.0 + 3.0), now=0.0, ranking_s=3.0)


def test_an_idle_engine_tries_whatever_comes() -> None:
    backlog_of().check(request("a", 100, deadline=1.0), now=0.0)


def test_nobody_is_refused_before_a_step_has_been_timed() -> None:
    backlog = Backlog(2, IMAGE)
    backlog.add(request("a", 100))
    backlog.check(request("b", 1, deadline=1.0), now=0.0)


def test_those_who_wait_have_a_place() -> None:
    backlog = backlog_of(request("a", 2), request("b", 2), request("c", 2))
    backlog.update("a", tokens_left=19)
    assert [backlog.position(name) for name in "abc"] == [0, 1, 2]
    backlog.remove("b")
    assert backlog.position("c") == 1
    assert backlog.slot_steps == 19 + 20
