"""A model changed again and again while clients ask for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from t2i.client import Client
from t2i.client.models import add_model
from t2i.serve.config import name_of
from tests.soak import scaled
from tests.t2i.serve.soak.conftest import Note
from tests.t2i.serve.soak.service import SoakService, under_load

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(3600)]
SECONDS = scaled(150)


def test_versions_rolled_in_under_load_lose_no_request(service: SoakService, other_run: Path, note: Note) -> None:
    with Client(service.grpc) as client:
        name, versions = name_of(str(service.run)), [str(service.run), str(other_run)]
        list(add_model(client, name, versions[1]))
        other = service.learn(client)
        changes, end = 0, time.monotonic() + SECONDS
        with under_load(service, other=other) as answers:
            while time.monotonic() < end or changes % 2 == 0:
                list(add_model(client, name, versions[changes % 2]))
                changes += 1
    lost, longest = sum(answers.lost.values()), answers.slowest_s
    told = f"{lost} lost, every image one version's or the other's; longest answer {longest:.1f} s"
    note("other weights rolled in", f"{changes}, under {answers.right + lost} requests", told)
    assert not answers.lost
    assert all(service.known[caption] != other[caption] for caption in other)
