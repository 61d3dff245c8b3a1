"""A replica of the prior: it samples the image tokens of many requests at once, in one engine."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing

import torch

from models.checkpoint import load_model
from models.prior import Prior, PriorConfig
from models.run_layout import RunLayout
from models.tokenizer import CaptionTokenizer
from t2i.engine import Engine, PartialCandidate, encode_request
from t2i.serve.auto.settle import settled
from t2i.serve.config import ServeConfig
from t2i.serve.messages import (
    CaptionRequest,
    QueueFullError,
    SampledImages,
    SampleHeader,
    SampleProgress,
    SampleRefused,
)
from t2i.serve.monitoring.origin import for_request
from t2i.serve.monitoring.setup import set_up_monitoring
from t2i.serve.replicas.engine_loop import EngineLoop, Event
from t2i.serve.replicas.setup import ModelDescription, description_of
from t2i.serve.runs import fetched
from t2i.serve.scaling import IMAGES_PER_SLOT


class PriorReplica:
    """Holds the tokenizer, the prior and the engine that samples from it."""

    def __init__(self, config: ServeConfig, *_: object) -> None:
        set_up_monitoring(config, "prior")
        config = settled(fetched(config))
        torch.set_num_threads(config.prior.settings.threads)
        directory = RunLayout(config.run).prior
        prior = load_model(Prior, PriorConfig, directory, config.prior.device, config.prior.dtype)
        self._tokenizer = CaptionTokenizer.load(RunLayout(config.run).tokenizer)
        self._description = description_of(config)
        self._layout = prior.layout
        engine = Engine(prior, config.prior.settings.slots, config.prior.captions, window=config.prior.window)
        if config.prior.compile:
            engine.compile()
        self._engine = EngineLoop(engine)

    @for_request("prior")
    async def sample(self, wanted: CaptionRequest) -> AsyncIterator[SampleRefused | SampleHeader | Event]:
        """Sample the candidates of a caption: yields the header, then the events of :meth:`EngineLoop.stream`.

        Of the rows of image tokens those are handed out that the request wants as previews. If other requests leave it
        too little time, all that is yielded is a :class:`SampleRefused`.
        """
        request, truncated = encode_request(
            self._tokenizer,
            self._layout.text_length,
            f"{wanted.id}.{uuid.uuid4().hex[:6]}",  # a second attempt may come before the first has left
            wanted.caption,
            candidates=wanted.candidates,
            seed=wanted.seed,
            sampling=wanted.sampling,
            prefix=wanted.prefix,
            deadline=wanted.deadline,
            client=wanted.client,
            progressive=wanted.preview_rows > 0,
        )
        try:
            self._engine.check_queue(request, wanted.ranking_s)
        except QueueFullError as error:
            yield SampleRefused(error.late_s)
            return
        yield SampleHeader(truncated, len(request.text), self._layout.grid, self._description.setup)
        async with aclosing(self._engine.stream(request)) as events:
            async for event in events:
                if isinstance(event, SampleProgress):
                    yield event
                elif (previews := self._previews(event, wanted.preview_rows)) or event.finished:
                    yield SampledImages(event.finished, previews)

    def _previews(self, images: SampledImages, every: int) -> tuple[PartialCandidate, ...]:
        """Return the partial candidates that have just completed a multiple of ``every`` rows."""
        per_preview = max(1, every) * self._layout.grid[1]
        return tuple(each for each in images.partial if len(each.image_tokens) % per_preview == 0)

    @for_request("prior")
    async def describe(self) -> ModelDescription:
        """Return the hashes and sizes of the whole model."""
        return self._description

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what the policy of the prior's autoscaling asks for; Serve's controller collects it."""
        return {IMAGES_PER_SLOT: self._engine.steps_per_slot / self._layout.image_length}

    async def activity(self) -> dict[str, int]:
        """Return the engine's steps since the start, the requests in it now, and the id of this process."""
        return {"steps": self._engine.steps, "requests": self._engine.requests, "process": os.getpid()}

    async def check_health(self) -> None:
        """Raise if the engine has stopped; Serve then replaces this replica."""
        self._engine.check()
