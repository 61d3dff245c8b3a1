"""Processes killed under load: no client may notice more than a wait."""

from __future__ import annotations

import os
import signal
import time
from functools import partial

import pytest
from openai import OpenAI

from tests.soak import scaled
from tests.t2i.serve.soak.conftest import Note
from tests.t2i.serve.soak.service import REPLICAS, Answers, SoakService, under_load, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(3600)]
KILLS = scaled(5)


@pytest.mark.parametrize("deployment", ["prior", "decoder", "reranker", "gateway"])
def test_one_of_two_replicas_killed_is_not_noticed(service: SoakService, note: Note, deployment: str) -> None:
    with under_load(service) as answers:
        for _ in range(KILLS):
            wait_until(lambda: len(service.processes(deployment)) == REPLICAS)
            answers.wait_for(4)
            os.kill(service.processes(deployment)[0], signal.SIGKILL)
            answers.wait_for(10)
    report(note, f"SIGKILL of one of two replicas of {deployment}", KILLS, answers)
    assert not answers.lost


@pytest.mark.parametrize("deployment", ["prior", "reranker"])
def test_requests_wait_while_no_replica_is_left(service: SoakService, note: Note, deployment: str) -> None:
    with under_load(service) as answers:
        answers.wait_for(4)
        for process in service.processes(deployment):
            os.kill(process, signal.SIGKILL)
        answers.wait_for(6)
    report(note, f"SIGKILL of all replicas of {deployment}", 1, answers)
    assert not answers.lost


def test_a_killed_controller_is_not_noticed(service: SoakService, note: Note) -> None:
    with under_load(service) as answers:
        os.kill(service.controller(), signal.SIGKILL)
        answers.wait_for(10)
    report(note, "SIGKILL of Serve's controller", 1, answers)
    assert not answers.lost


def test_one_of_two_replicas_killed_is_not_noticed_over_http(service: SoakService, note: Note) -> None:
    client = OpenAI(base_url=f"{service.http}/v1", api_key="none")  # which asks twice more by itself
    draw = partial(client.images.generate, prompt="a red taco", extra_body={"seed": 7, "candidates": 4})
    expected = draw().data
    os.kill(service.processes("http")[0], signal.SIGKILL)
    begin = time.monotonic()
    assert [draw().data for _ in range(4)] == [expected] * 4
    told = f"0 lost; OpenAI's client had them after {time.monotonic() - begin:.1f} s"
    note("SIGKILL of one of two replicas of http", "1, before 4 requests", told)


def report(note: Note, what: str, kills: int, answers: Answers) -> None:
    lost, longest = sum(answers.lost.values()), answers.slowest_s
    note(what, f"{kills}, under {answers.right + lost} requests", f"{lost} lost; longest answer {longest:.1f} s")
