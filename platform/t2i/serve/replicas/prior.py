"""One replica of the prior: captions in, image tokens out, many requests in one engine."""

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
from t2i.engine import Engine, Request
from t2i.serve.config import ServeConfig
from t2i.serve.replicas.engine_loop import EngineLoop, Event
from t2i.serve.replicas.messages import SampleOrder, SampleStart


class PriorReplica:
    """Owns the tokenizer, the prior and the engine that samples from it."""

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

    async def sample(self, order: SampleOrder) -> AsyncIterator[SampleStart | Event]:
        """The start, then what :meth:`EngineLoop.stream` gives."""
        caption = self._tokenizer.encode(order.caption, self._layout.text_length)
        yield SampleStart(caption.truncated, self._layout.grid, self._model)
        name, ids = uuid.uuid4().hex[:12], tuple(caption.ids)
        request = Request(name, ids, order.candidates, order.seed, order.sampling, order.prefix, order.deadline)
        async with aclosing(self._engine.stream(request)) as events:
            async for event in events:
                yield event

    async def activity(self) -> dict[str, int]:
        """Steps made since the start, requests in the engine now, and the process that does it."""
        return {"steps": self._engine.steps, "requests": self._engine.requests, "process": os.getpid()}

    async def check_health(self) -> None:
        """Serve replaces this replica when its engine has stopped."""
        self._engine.check()
