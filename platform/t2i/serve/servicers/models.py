"""The service ``t2i.v1.Models``: which models there are, what computes for them, and their sizes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from t2i.protos.v1 import models_pb2
from t2i.protos.v1.models_pb2_grpc import ModelsServicer
from t2i.protos.v1.receipt_pb2 import Setup
from t2i.serve.generation.calls import Calls
from t2i.serve.generation.receipt import to_message
from t2i.serve.models import ServedModels
from t2i.serve.servicers.rpc import Limits, answering
from t2i.serve.servicers.validation import MAX_CHARACTERS, MAX_PREVIEWED

STAGES = {"prior", "decoder", "reranker"}

DESCRIBE_S = 10.0
"""Seconds that a running prior has to describe its model."""

RunningStages = Callable[[Sequence[str]], Mapping[str, set[str]]]
"""Returns by model which of its stages have a running replica; it may block."""


class ModelsService(ModelsServicer):
    """Lists the models."""

    def __init__(self, models: ServedModels, limits: Limits, running: RunningStages) -> None:
        self._models, self._limits, self._running = models, limits, running

    async def ListModels(
        self,
        request: models_pb2.ListModelsRequest,  # noqa: ARG002 - it has no fields
        context: Any,
    ) -> models_pb2.ListModelsResponse:
        """Return all models, the default first, and the limits of requests."""
        async with answering(context, self._limits) as calls:
            names = self._models.names
            running = await asyncio.to_thread(self._running, names)
            models = await asyncio.gather(*(self._model(name, running.get(name, set()), calls) for name in names))
            return models_pb2.ListModelsResponse(models=models, limits=self._limits_message())
        raise AssertionError("unreachable: answering() ends the RPC")

    async def _model(self, name: str, running: set[str], calls: Calls) -> models_pb2.Model:
        """Return a model; only its name if its prior is not ``running`` or does not answer."""
        model = models_pb2.Model(name=name, is_default=name == self._models.name_of(""))
        if "prior" not in running:
            return model
        try:
            async with asyncio.timeout(DESCRIBE_S):
                description = await calls.call(self._models.stages(name).prior.describe)
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
