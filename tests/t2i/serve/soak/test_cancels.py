"""Requests that are given up in every way there is, beside others that must not notice."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest

from t2i.client import Client, ServiceError
from tests.soak import scaled
from tests.t2i.serve.soak.cable import cable_to
from tests.t2i.serve.soak.conftest import Note
from tests.t2i.serve.soak.service import SoakService, under_load, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(3600)]
CANCELS = scaled(200)
LONGEST_S = 0.6
CANDIDATES = 256

GiveUp = Callable[[SoakService, float], None]
"""Asks a service for many images, and gives up after so many seconds."""


def close_stream(service: SoakService, after_s: float) -> None:
    end = time.monotonic() + after_s
    with Client(service.grpc) as client:
        events = client.generate_stream("a green house", candidates=CANDIDATES)
        for _ in events:
            if time.monotonic() > end:
                events.close()


def let_deadline_pass(service: SoakService, after_s: float) -> None:
    with Client(service.grpc) as client, pytest.raises(ServiceError):
        client.generate("a green house", candidates=CANDIDATES, timeout=after_s)


def cut_grpc(service: SoakService, after_s: float) -> None:
    end = time.monotonic() + after_s
    with cable_to(service.grpc) as cable, Client(cable.address) as client, suppress(ServiceError):
        for _ in client.generate_stream("a green house", candidates=CANDIDATES, timeout=after_s + 0.5):
            if time.monotonic() > end:
                cable.cut()
                return


def close_http_stream(service: SoakService, after_s: float) -> None:
    end = time.monotonic() + after_s
    with httpx.stream("POST", f"{service.http}/t2i/v1/generate", json=MESSAGE, timeout=60) as answer:
        for _ in answer.iter_bytes():
            if time.monotonic() > end:
                return


def leave_http(service: SoakService, after_s: float) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{service.http}/v1/images/generations", json=FIELDS, timeout=httpx.Timeout(60, read=after_s))


def cut_http(service: SoakService, after_s: float) -> None:
    end = time.monotonic() + after_s
    with cable_to(service.http.removeprefix("http://")) as cable, suppress(httpx.TransportError):
        url = f"http://{cable.address}/t2i/v1/generate"
        with httpx.stream("POST", url, json=MESSAGE, timeout=60) as answer:
            for _ in answer.iter_bytes():
                if time.monotonic() > end:
                    cable.cut()


MESSAGE = {"caption": "a green house", "candidates": CANDIDATES}
FIELDS = {"prompt": "a green house", "candidates": CANDIDATES}
WAYS: list[GiveUp] = [close_stream, let_deadline_pass, cut_grpc, close_http_stream, leave_http, cut_http]


def test_requests_that_are_given_up_stop_and_change_no_others(service: SoakService, note: Note) -> None:
    chance = random.Random(7)
    counts: Counter[str] = Counter()
    with under_load(service, clients=2) as others:
        for _ in range(CANCELS):
            give_up = chance.choice(WAYS)
            give_up(service, chance.uniform(0.02, LONGEST_S))
            counts[give_up.__name__.replace("_", " ")] += 1
    wait_until(service.is_idle)
    before = service.engines()
    time.sleep(1.0)
    after = service.engines()
    ways = ", ".join(f"{count} {way}" for way, count in counts.items())
    lost = sum(others.lost.values())
    note(
        f"requests given up: {ways}",
        f"{CANCELS}, beside {others.right + lost} others",
        f"none goes on; of the others {lost} lost or other images",
    )
    assert before == after, "something goes on although nobody waits for it"
    assert not others.lost
    assert others.right > 0
