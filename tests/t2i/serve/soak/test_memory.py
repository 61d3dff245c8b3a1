"""Memory that a service does not give back."""

from __future__ import annotations

import time

import pytest

from tests.soak import scaled
from tests.t2i.serve.soak.conftest import Note
from tests.t2i.serve.soak.service import Answers, SoakService, under_load

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(3600)]
REQUESTS = scaled(10_000)
WARM_UP = 300
MB = 20
"""Megabytes by which a process may grow."""


def test_many_requests_leave_no_memory_behind(service: SoakService, note: Note) -> None:
    ask(service, WARM_UP)
    before = service.megabytes()
    answers = ask(service, REQUESTS)
    after = service.megabytes()
    assert set(before) == set(after), "a process was replaced"
    growth = {name: after[name] - before[name] for name in after}
    most = max(growth, key=growth.__getitem__)
    lost = sum(answers.lost.values())
    told = f"{lost} lost; {most.split()[0]} grew most, by {growth[most]:.0f} MB to {after[most]:.0f} MB"
    note("requests one after the other", str(answers.right + lost), told)
    assert not answers.lost
    assert growth[most] <= MB


def ask(service: SoakService, count: int) -> Answers:
    with under_load(service) as answers:
        while answers.right + sum(answers.lost.values()) < count:
            time.sleep(0.1)
    return answers
