"""A replica of the prior: it samples the image tokens of many requests at once, in one engine."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing

import torch

from models.checkpoint import load_model
from models.manifest import model_hash
from models.prior import Prior, PriorConfig
from models.run_layout import RunLayout
from models.tokenizer import CaptionTokenizer
from t2i.engine import Engine, encode_request
from t2i.serve.config import ServeConfig
from t2i.serve.replicas.engine_loop import EngineLoop, Event
from t2i.serve.replicas.messages import CaptionRequest, SampleHeader


class PriorReplica:
    """Holds the tokenizer, the prior and the engine that samples from it."""

    def __init__(self, config: ServeConfig) -> None:
        torch.set_num_threads(config.prior.threads)
        directory = RunLayout(config.run).prior
        prior = load_model(Prior, PriorConfig, directory, config.prior.device, config.prior.dtype)
        self._tokenizer = CaptionTokenizer.load(RunLayout(config.run).tokenizer)
        self._model = model_hash(directory)
        self._layout = prior.layout
        engine = Engine(prior, config.prior.slots, config.prior.captions)
        if config.prior.compile:
            engine.compile()
        self._engine = EngineLoop(engine)

    async def sample(self, wanted: CaptionRequest) -> AsyncIterator[SampleHeader | Event]:
        """Sample the candidates of a caption: yields the header, then the events of :meth:`EngineLoop.stream`."""
        request, truncated = encode_request(
            self._tokenizer,
            self._layout.text_length,
            uuid.uuid4().hex[:12],
            wanted.caption,
            candidates=wanted.candidates,
            seed=wanted.seed,
            sampling=wanted.sampling,
            prefix=wanted.prefix,
            deadline=wanted.deadline,
        )
        yield SampleHeader(truncated, self._layout.grid, self._model)
        async with aclosing(self._engine.stream(request)) as events:
            async for event in events:
                yield event

    async def activity(self) -> dict[str, int]:
        """Return the engine's steps since the start, the requests in it now, and the id of this process."""
        return {"steps": self._engine.steps, "requests": self._engine.requests, "process": os.getpid()}

    async def check_health(self) -> None:
        """Raise if the engine has stopped; Serve then replaces this replica."""
        self._engine.check()
