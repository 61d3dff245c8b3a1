"""Requests on their way through the deployments, whichever of the HTTP interfaces they came by."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import HTTPConnection

from t2i.protos.v1 import generation_pb2 as pb
from t2i.serve.access.access import Access
from t2i.serve.access.keys import Key
from t2i.serve.generation.calls import Calls
from t2i.serve.generation.events import Event
from t2i.serve.generation.generate import generate
from t2i.serve.generation.image_codec import QUALITY
from t2i.serve.generation.stages import StageHandles
from t2i.serve.http.limits import HttpLimits
from t2i.serve.http.shape import ImageShape
from t2i.serve.models import ServedModels
from t2i.serve.servicers.generation import prefix_of
from t2i.serve.servicers.validation import wanted_images


@dataclass(frozen=True)
class Asked:
    """A request: what calls deployments for it, and its key, if clients need one."""

    calls: Calls
    key: Key | None


@dataclass(frozen=True)
class Backend:
    """The models that are served, the limits of a request, who may ask, and the handle of ``images``."""

    models: ServedModels
    limits: HttpLimits
    access: Access
    images: Any

    def asked(self, connection: HTTPConnection) -> Asked:
        """Return a request that may be made, before its work begins.

        Raises:
            UnauthenticatedError: clients need a key, and it has none that is known.
        """
        key, calls = self.access.key_of(connection.headers.get("authorization")), self.limits.calls(connection)
        calls.client = key.name if key else calls.client
        return Asked(calls, key)

    @asynccontextmanager
    async def working(self, asked: Asked) -> AsyncIterator[Calls]:
        """Yield what calls deployments for a request; it is cancelled at the block's end.

        Raises:
            TimeoutError: the request's time is over.
            QuotaExceededError: its key has used up its quota.
        """
        async with asked.calls.bounded(), self.access.admitted(asked.key, asked.calls):
            yield asked.calls

    async def shape(self, model: str, calls: Calls) -> ImageShape:
        """Return the shape of a model's images.

        Raises:
            RequestError: there is no such model.
        """
        stages: StageHandles = self.models.stages(model)
        told = await calls.call(stages.prior.describe)
        return ImageShape(told.grid_height, told.grid_width, told.image_side // told.grid_height)

    async def draw(self, request: pb.GenerateRequest, calls: Calls, quality: int = QUALITY) -> AsyncGenerator[Event]:
        """Yield the events of a request, whose files are encoded at a ``quality``.

        Raises:
            RequestError: a field is out of range; and what :func:`generate` raises.
        """
        model = self.models.find(request.model)
        calls.monitor.model = model.name
        prefix = await prefix_of(request, model.stages, calls)
        wanted = replace(wanted_images(request, prefix, self.limits.max_candidates, calls), quality=quality)
        wanted = replace(wanted, model=model.name)
        async with aclosing(generate(model.stages, wanted, calls)) as events:
            async for event in events:
                yield event
