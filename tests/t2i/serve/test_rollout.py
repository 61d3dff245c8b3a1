"""Models added, removed and made the default, over a Serve that only notes what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from t2i.sampling import RequestError
from t2i.serve import rollout as module
from t2i.serve.app import Launched
from t2i.serve.catalog import MODEL_APPS, Catalog, app_of
from t2i.serve.config import ServeConfig
from t2i.serve.messages import Added, Step
from t2i.serve.names import GATEWAY_APP, HTTP_APP
from t2i.serve.rollout import RolloutReplica
from t2i.serve.running import AppState
from t2i.serve.runs import version_of
from tests.kept_models import keep, promote

KNOWN = Catalog({"tiny": app_of("tiny")})
READY = AppState(frozenset({"prior", "decoder", "reranker"}), is_ready=True)


class NotedServe:
    """Applications start in the state ``next_state``; what the gateways are told is in ``told``."""

    def __init__(self) -> None:
        self.states = {app_of("tiny"): READY, GATEWAY_APP: READY}
        self.next_state = READY
        self.started: list[str] = []
        self.told: list[dict[str, str]] = []

    def run_apps(self, apps: Mapping[str, Any], wait: bool = True) -> None:
        assert wait != any(name.startswith(MODEL_APPS) for name in apps)
        for name, app in apps.items():
            if name == GATEWAY_APP:
                self.told.append(dict(app.apps))
            else:
                self.started.append(name)
                self.states[name] = self.next_state

    def delete(self, name: str, _blocking: bool) -> None:
        assert not _blocking
        self.states.pop(name, None)

    @property
    def models(self) -> list[str]:
        return sorted(name for name in self.states if name.startswith(MODEL_APPS))


class NotedDoors(Launched):
    """A service whose gateways are only the catalog that they are told."""

    def doors(self, catalog: Catalog) -> dict[str, Any]:
        return {GATEWAY_APP: catalog}


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[NotedServe]:
    noted = NotedServe()
    monkeypatch.setattr(module, "POLL_S", 0.01)
    monkeypatch.setattr(module, "run_apps", noted.run_apps)
    monkeypatch.setattr(module, "app_states", lambda: dict(noted.states))
    monkeypatch.setattr(module, "model_apps", lambda: noted.models)
    with mock.patch("ray.serve.delete", noted.delete):
        yield noted


@pytest.fixture
def service(service_config: ServeConfig) -> Launched:
    return NotedDoors.of(replace(service_config, drain_s=0.05))


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def added(rollout: RolloutReplica, name: str, path: Path, known: Catalog = KNOWN) -> list[Added]:
    return [event async for event in rollout.add(known, name, str(path))]


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_a_new_version_is_ready_before_requests_pass_over_and_the_old_one_ends_later(
    noted: NotedServe, service: Launched, other_run: Path
) -> None:
    app = app_of("tiny", version_of(str(other_run)))

    async def main() -> None:
        rollout = RolloutReplica(service)
        noted.next_state = AppState(frozenset({"prior"}), waits_for="no room")
        async with aclosing(rollout.add(KNOWN, "tiny", str(other_run))) as events:
            assert await anext(events) == Added(Step.LOAD)
            assert await anext(events) == Added(Step.LOAD, 1, "no room")
            assert noted.told == []
            noted.states[app] = READY
            steps = [event.step async for event in events if event.step != Step.LOAD]
        assert steps == [Step.SWITCH, Step.SERVED]
        assert noted.told == [{"tiny": app}]
        assert noted.models == [app_of("tiny"), app]
        await until(lambda: noted.models == [app])
        assert [event.step for event in await added(rollout, "tiny", other_run)] == [Step.SERVED]
        assert noted.started == [app]

    run(main())


def test_models_that_do_not_start_change_nothing(noted: NotedServe, service: Launched, other_run: Path) -> None:
    async def main() -> None:
        noted.next_state = AppState(has_failed=True)
        with pytest.raises(RequestError, match="do not start, see the log of the service") as caught:
            await added(RolloutReplica(service), "tiny", other_run)
        assert caught.value.field == "run"
        assert (noted.told, noted.models) == ([], [app_of("tiny")])

    run(main())


def test_a_promoted_model_is_added_as_the_version_that_it_is_then(
    noted: NotedServe, service: Launched, other_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, runs = keep("rolled", other_run), list[str]()
    monkeypatch.setattr(module, "model_app", lambda _, run: runs.append(run))

    async def add(name: str) -> None:
        assert [event async for event in RolloutReplica(service).add(KNOWN, "tiny", name)]

    with pytest.raises(RequestError, match=f"run: models://rolled means no version yet: name one of {version.path}"):
        run(add("models://rolled"))
    promote(version)
    run(add("models://rolled"))
    assert runs == [f"models://{version.path}"]
    assert noted.started == [app_of("tiny", version_of(str(other_run)))]


def test_a_run_that_is_not_there_is_named(noted: NotedServe, service: Launched, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(RequestError, match=f"run: {tmp_path} has no tokenizer") as caught:
            await added(RolloutReplica(service), "tiny", tmp_path)
        assert caught.value.field == "run"
        assert noted.started == []

    run(main())


def test_a_caller_that_leaves_takes_its_change_with_it(noted: NotedServe, service: Launched, other_run: Path) -> None:
    async def main() -> None:
        rollout = RolloutReplica(service)
        noted.next_state = AppState()
        leaving = rollout.add(KNOWN, "tiny", str(other_run))
        await anext(leaving)
        waiting = rollout.add(KNOWN, "small", str(other_run))
        assert await anext(waiting) == Added(Step.QUEUE)
        await leaving.aclose()
        assert (noted.told, noted.models) == ([], [app_of("tiny")])
        noted.next_state = READY
        assert [event.step async for event in waiting][-1] == Step.SERVED
        assert [list(apps) for apps in noted.told] == [["tiny", "small"]]

    run(main())


def test_the_version_before_comes_back_at_once_while_it_drains(
    noted: NotedServe, service: Launched, run_directory: Path, other_run: Path
) -> None:
    async def main() -> None:
        rollout = RolloutReplica(service)
        await added(rollout, "tiny", run_directory)
        service.config.drain_s = 0.3
        await added(rollout, "tiny", other_run)
        started = list(noted.started)
        await added(rollout, "tiny", run_directory)
        assert noted.started == started
        await until(lambda: noted.models == [noted.told[-1]["tiny"]])
        assert noted.told[-1] == noted.told[0]

    run(main())


def test_models_are_removed_and_made_the_default(noted: NotedServe, service: Launched, other_run: Path) -> None:
    async def main() -> None:
        rollout = RolloutReplica(service)
        await added(rollout, "small", other_run)
        with pytest.raises(RequestError, match="tiny is the default"):
            await rollout.remove(KNOWN, "tiny")
        await rollout.set_default(KNOWN, "small")
        await rollout.remove(KNOWN, "tiny")
        assert [list(apps) for apps in noted.told] == [["tiny", "small"], ["small", "tiny"], ["small"]]
        await until(lambda: noted.models == [app_of("small", version_of(str(other_run)))])

    run(main())


def test_the_newest_catalog_is_changed_even_by_a_replica_that_is_new(
    noted: NotedServe, service: Launched, other_run: Path
) -> None:
    async def main() -> None:
        newer = KNOWN.with_model("small", "app-small")
        await RolloutReplica(service).set_default(newer, "small")
        rollout = RolloutReplica(service)
        await rollout.set_default(newer, "small")
        await rollout.set_default(KNOWN, "tiny")
        assert [list(apps) for apps in noted.told] == [["small", "tiny"], ["small", "tiny"], ["tiny", "small"]]
        await added(rollout, "tiny", other_run)
        assert list(noted.told[-1]) == ["tiny", "small"]

    run(main())


def test_an_application_that_no_catalog_names_is_ended(noted: NotedServe, service: Launched) -> None:
    async def main() -> None:
        noted.states[app_of("tiny", "of a change that was lost")] = READY
        await RolloutReplica(service).set_default(KNOWN, "tiny")
        await until(lambda: noted.models == [app_of("tiny")])

    run(main())


def test_doors_keep_their_replicas_when_models_change(service_config: ServeConfig) -> None:
    service = Launched.of(replace(service_config, http_port=8000))
    changed = KNOWN.with_model("small", app_of("small"))
    before, after = service.doors(KNOWN), service.doors(changed)
    assert set(before) == {GATEWAY_APP, HTTP_APP}
    for name in before:
        one, other = (apps[name]._bound_deployment for apps in (before, after))
        assert one.version == other.version == service.version
        assert one.user_config != other.user_config
    assert Launched.of(service_config).version != service.version
