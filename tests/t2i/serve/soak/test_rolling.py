"""A model changed again and again while clients ask for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from t2i.client import Client, InvalidRequestError
from t2i.client.models import add_model, list_models, remove_model, set_default_model
from t2i.protos.v1.models_pb2 import ADD_STEP_SERVED
from t2i.serve.catalog import app_of
from t2i.serve.config import name_of
from t2i.serve.running import model_apps
from t2i.serve.runs import version_of
from tests.kept_models import keep
from tests.soak import scaled
from tests.t2i.serve.soak.conftest import Note
from tests.t2i.serve.soak.service import SoakService, under_load, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(3600)]
SECONDS = scaled(150)


def test_versions_rolled_in_under_load_lose_no_request(service: SoakService, other_run: Path, note: Note) -> None:
    with Client(service.grpc) as client:
        name = name_of(str(service.run))
        versions = [f"models://{keep('rolled', run).path}" for run in (service.run, other_run)]
        list(add_model(client, name, versions[1]))
        other = service.learn(client)
        changes, end = 0, time.monotonic() + SECONDS
        with under_load(service, other=other) as answers:
            while time.monotonic() < end or changes % 2 == 0:
                *_, last = add_model(client, name, versions[changes % 2])
                assert last.step == ADD_STEP_SERVED
                changes += 1
            answers.wait_for(6)
        assert service.learn(client) == service.known
    wait_until(lambda: model_apps() == [app_of(name, version_of(versions[0]))])
    lost, longest = sum(answers.lost.values()), answers.slowest_s
    told = f"{lost} lost, every image one version's or the other's; longest answer {longest:.1f} s"
    note("other weights rolled in", f"{changes}, under {answers.right + lost} requests", told)
    assert not answers.lost
    assert all(service.known[caption] != other[caption] for caption in other)


def test_a_second_model_comes_and_goes(service: SoakService) -> None:
    first = name_of(str(service.run))
    with Client(service.grpc) as client:
        list(add_model(client, "small", str(service.run)))
        set_default_model(client, "small")
        with pytest.raises(InvalidRequestError, match="small is the default: make another the default first"):
            remove_model(client, "small")
        assert client.generate("a red taco", seed=7).summary.models["decoder"]
        set_default_model(client, first)
        remove_model(client, "small")
        assert [model.name for model in list_models(client).models] == [first]
