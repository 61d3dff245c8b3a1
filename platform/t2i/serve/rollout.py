"""The deployment ``rollout``: it adds and removes models, and makes others the default, while the service answers.

Each version of a model has an application of its own, so that two stand side by side while requests pass over:

    t2i-model-small             answers ...............| drains ......| deleted
    t2i-model-small@3fa9c2d1          loads ......ready| answers ..................
    gateways, HTTP                      catalog before | catalog after

Gateways keep their replicas: Serve hands them the catalog of models as their new ``user_config``. All may be asked for
again, whatever came in between: an application that is there already is used, one that no catalog names is ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from ray import serve

from models.errors import UserError
from t2i.logs import get_logger
from t2i.sampling import RequestError
from t2i.serve.app import Launched, model_app
from t2i.serve.catalog import Catalog, app_of
from t2i.serve.messages import Added, Step
from t2i.serve.monitoring.origin import for_request
from t2i.serve.running import AppState, app_states, model_apps, run_apps
from t2i.serve.runs import version_of
from t2i.storage import exact_run

POLL_S = 0.5
"""Seconds between two looks at an application that starts."""

logger = get_logger("serve.rollout")


class RolloutReplica:
    """One replica, so that one change is made at a time; the others wait.

    A gateway tells with each call which catalog it knows. The newer of that one and the last that this replica made is
    the one that is changed: so the replica may be lost at any time.
    """

    def __init__(self, service: Launched) -> None:
        self._service = service
        self._catalog = Catalog(revision=-1)  # older than any that a gateway knows
        self._draining: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()

    @for_request("rollout")
    async def add(self, known: Catalog, name: str, run: str) -> AsyncGenerator[Added]:
        """Serve a run under a name; yields how far that is. If the caller goes away before the switch, nothing changes.

        Raises:
            RequestError: the name is not possible, the run lacks a model, or its models do not start.
        """
        if self._turn.locked():
            yield Added(Step.QUEUE)
        async with self._changing(known):
            run, version = await _exact(run)
            app = app_of(name, version)
            after = self._catalog.with_model(name, app)
            if self._catalog.apps.get(name) != app:
                async with aclosing(self._loading(app, run)) as states:
                    async for state in states:
                        yield Added(Step.LOAD, len(state.running), state.waits_for)
                yield Added(Step.SWITCH, 3)
                await self._switch(after)
            yield Added(Step.SERVED, 3)

    @for_request("rollout")
    async def remove(self, known: Catalog, name: str) -> None:
        """End a model.

        Raises:
            RequestError: there is no such model, or it is the default.
        """
        async with self._changing(known):
            await self._switch(self._catalog.without(name))

    @for_request("rollout")
    async def set_default(self, known: Catalog, name: str) -> None:
        """Make a model the default.

        Raises:
            RequestError: there is no such model.
        """
        async with self._changing(known):
            await self._switch(self._catalog.with_default(name))

    @asynccontextmanager
    async def _changing(self, known: Catalog) -> AsyncIterator[None]:
        """Wait until it is this change's turn, with the newest catalog."""
        async with self._turn:
            self._catalog = max(self._catalog, known, key=lambda catalog: catalog.revision)
            yield
            self._drain(await asyncio.to_thread(model_apps))

    async def _loading(self, app: str, run: str) -> AsyncGenerator[AppState]:
        """Start an application and yield how far it is until it is ready; it is ended again if that fails."""
        if (draining := self._draining.pop(app, None)) is not None:
            draining.cancel()  # back to the version before, which still stands
        try:
            while (state := (await asyncio.to_thread(app_states)).get(app)) is None or not state.is_ready:
                if state is None:  # also once one of the same name has ended
                    await asyncio.to_thread(self._deploy, app, run)
                elif state.has_failed:
                    raise RequestError("run", f"run: the models of {run} do not start, see the log of the service.")
                yield state or AppState()
                await asyncio.sleep(POLL_S)
        except BaseException:
            serve.delete(app, _blocking=False)
            raise

    def _deploy(self, app: str, run: str) -> None:
        run_apps({app: model_app(self._service.config, run)}, wait=False)

    def _tell_doors(self, after: Catalog) -> None:
        run_apps(self._service.doors(after))

    async def _switch(self, after: Catalog) -> None:
        """Let all doors know a catalog, and return when they do, even if the caller goes away meanwhile."""
        doors = asyncio.create_task(asyncio.to_thread(self._tell_doors, after))
        try:
            await asyncio.shield(doors)
        finally:
            await doors
            self._catalog = after
        logger.info("the models are %s", ", ".join(f"{name} ({app})" for name, app in after.apps.items()))

    def _drain(self, apps: list[str]) -> None:
        """End the applications that the doors no longer know, when what these have begun has had ``drain_s``."""
        for app in set(apps) - set(self._catalog.apps.values()) - set(self._draining):
            self._draining[app] = asyncio.create_task(self._end(app))

    async def _end(self, app: str) -> None:
        await asyncio.sleep(self._service.config.drain_s)
        serve.delete(app, _blocking=False)
        self._draining.pop(app)


async def _exact(run: str) -> tuple[str, str]:
    """Return the run that an address means now, and the version that its content has."""
    try:
        run = await asyncio.to_thread(exact_run, run)
        return run, await asyncio.to_thread(version_of, run)
    except UserError as error:
        raise RequestError("run", f"run: {error}") from error
