"""Requests on their way through the deployments, whichever of the HTTP interfaces they came by."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from t2i.protos.v1 import generation_pb2 as pb
from t2i.serve.generation.calls import Calls
from t2i.serve.generation.events import Event
from t2i.serve.generation.generate import StageHandles, generate
from t2i.serve.generation.image_codec import QUALITY
from t2i.serve.http.limits import HttpLimits
from t2i.serve.messages import ImageShape
from t2i.serve.models import ServedModels
from t2i.serve.servicers.generation import prefix_of
from t2i.serve.servicers.validation import wanted_images


@dataclass(frozen=True)
class Backend:
    """The models that are served, and the limits of a request."""

    models: ServedModels
    limits: HttpLimits

    async def shape(self, model: str, calls: Calls) -> ImageShape:
        """Return the shape of a model's images.

        Raises:
            RequestError: there is no such model.
        """
        stages: StageHandles = self.models.stages(model)
        shape: ImageShape = await calls.call(stages.decoder.shape)
        return shape

    async def draw(self, request: pb.GenerateRequest, calls: Calls, quality: int = QUALITY) -> AsyncGenerator[Event]:
        """Yield the events of a request, whose files are encoded at a ``quality``.

        Raises:
            RequestError: a field is out of range; and what :func:`generate` raises.
        """
        stages = self.models.stages(request.model)
        prefix = await prefix_of(request, stages, calls)
        wanted = replace(wanted_images(request, prefix, self.limits.max_candidates, calls), quality=quality)
        async with aclosing(generate(stages, wanted, calls)) as events:
            async for event in events:
                yield event
