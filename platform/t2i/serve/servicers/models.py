"""The service ``t2i.v1.Models``: which models there are, what computes for them, their sizes, and changes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from t2i.protos.v1 import models_pb2
from t2i.protos.v1.models_pb2_grpc import ModelsServicer
from t2i.protos.v1.receipt_pb2 import Setup
from t2i.serve.catalog import Catalog
from t2i.serve.generation.calls import Calls
from t2i.serve.generation.receipt import to_message
from t2i.serve.messages import NotChangeableError, Step
from t2i.serve.models import Served, ServedModels
from t2i.serve.servicers.rpc import Limits, administering, answering
from t2i.serve.servicers.validation import MAX_CHARACTERS, MAX_PREVIEWED

STAGES = {"prior", "decoder", "reranker"}

DESCRIBE_S = 10.0
"""Seconds that a running prior has to describe its model."""

RunningStages = Callable[[Mapping[str, str]], Mapping[str, set[str]]]
"""Returns by model which of its stages have a running replica, given the models' applications; it may block."""

STEPS = {
    Step.QUEUE: models_pb2.ADD_STEP_QUEUE,
    Step.LOAD: models_pb2.ADD_STEP_LOAD,
    Step.SWITCH: models_pb2.ADD_STEP_SWITCH,
    Step.SERVED: models_pb2.ADD_STEP_SERVED,
}


class ModelsService(ModelsServicer):
    """Lists the models, and lets the deployment ``rollout`` change them; None: they cannot be changed."""

    def __init__(self, models: ServedModels, limits: Limits, running: RunningStages, rollout: Any) -> None:
        self._models, self._limits, self._running, self._rollout = models, limits, running, rollout

    async def ListModels(
        self,
        request: models_pb2.ListModelsRequest,  # noqa: ARG002 - it has no fields
        context: Any,
    ) -> models_pb2.ListModelsResponse:
        """Return all models, the default first, and the limits of requests."""
        async with answering(context, self._limits) as calls:
            catalog, served = self._models.catalog, self._models.all()
            running = await asyncio.to_thread(self._running, catalog.apps)
            found = (self._model(each, catalog, running.get(each.name, set()), calls) for each in served)
            models = await asyncio.gather(*found)
            return models_pb2.ListModelsResponse(models=models, limits=self._limits_message())
        raise AssertionError("unreachable: answering() ends the RPC")

    async def AddModel(
        self, request: models_pb2.AddModelRequest, context: Any
    ) -> AsyncIterator[models_pb2.AddModelResponse]:
        """Yield how far the addition of a model is, until all gateways hand requests to it."""
        async with self._changing(context) as (rollout, calls):
            self._models.catalog.with_model(request.name, "")
            added = calls.stream(rollout.add, self._models.catalog, request.name, request.run)
            async with aclosing(added) as events:
                async for event in events:
                    if event is None:  # the replica that makes changes is being started
                        continue
                    yield models_pb2.AddModelResponse(
                        step=STEPS[event.step], stages_running=event.stages_running, waits_for=event.waits_for
                    )

    async def RemoveModel(self, request: models_pb2.RemoveModelRequest, context: Any) -> models_pb2.RemoveModelResponse:
        """Return once no gateway hands requests to the model."""
        async with self._changing(context) as (rollout, calls):
            self._models.catalog.without(request.name)
            await calls.call(rollout.remove, self._models.catalog, request.name)
            return models_pb2.RemoveModelResponse()
        raise AssertionError("unreachable: answering() ends the RPC")

    async def SetDefault(self, request: models_pb2.SetDefaultRequest, context: Any) -> models_pb2.SetDefaultResponse:
        """Return once all gateways have the model as their default."""
        async with self._changing(context) as (rollout, calls):
            self._models.catalog.with_default(request.name)
            await calls.call(rollout.set_default, self._models.catalog, request.name)
            return models_pb2.SetDefaultResponse()
        raise AssertionError("unreachable: answering() ends the RPC")

    @asynccontextmanager
    async def _changing(self, context: Any) -> AsyncIterator[tuple[Any, Calls]]:
        """Yield the deployment that changes models, and what calls it.

        What this gateway's catalog shows to be impossible is refused here: Serve logs an exception of ``rollout`` as an
        error of the service.
        """
        async with administering(context, self._limits) as calls:
            if self._rollout is None:
                raise NotChangeableError(
                    "this service is deployed from a file: change models there, and deploy it again."
                )
            yield self._rollout, calls

    async def _model(self, served: Served, catalog: Catalog, running: set[str], calls: Calls) -> models_pb2.Model:
        """Return a model; only its names if its prior is not ``running`` or does not answer."""
        name, aliases = served.name, catalog.aliases_of(served.name)
        model = models_pb2.Model(name=name, is_default=name == catalog.default, aliases=aliases)
        if "prior" not in running:
            return model
        try:
            async with asyncio.timeout(DESCRIBE_S):
                description = await calls.call(served.stages.prior.describe)
        except (TimeoutError, RayError, RayServeException):
            return model
        sizes = {key: value for key, value in asdict(description).items() if key != "setup"}
        model.MergeFrom(models_pb2.Model(ready=running >= STAGES, setup=to_message(description.setup, Setup), **sizes))
        return model

    def _limits_message(self) -> models_pb2.Limits:
        return models_pb2.Limits(
            candidates=self._limits.max_images,
            previewed_candidates=MAX_PREVIEWED,
            caption_characters=MAX_CHARACTERS,
            seconds=self._limits.time_limit_s,
        )
