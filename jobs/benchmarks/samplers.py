"""Our samplers, as the benchmarks time them: the engine, the same prior with a dense static cache, or with none."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import seconds
from models.prior import Prior, PriorConfig, text_tensor
from models.prior.decoding import kv_cache
from models.prior.decoding.kv_cache import AttentionFn
from models.prior.decoding.packed import PackedLinear
from models.prior.masks import Kind, stream_mask
from models.prior.sampling import noise_keys, sample
from t2i.engine import Engine, Request, runner

CAPTION = tuple(range(1, 17))
PARTS: dict[str, tuple[Any, str]] = {
    "matrix products": (PackedLinear, "forward"),
    "attention": (kv_cache, "decode_attention"),
    "sampling": (runner, "sample"),
    "captions and slots": (runner.Runner, "assign"),
    "runner": (runner.Runner, "decode"),
}
"""Name -> (owner, attribute) of the functions that :func:`time_parts` times."""


def new_prior(shape: PriorConfig, dtype: str, device: str = "cpu") -> Prior:
    """Return a prior of random weights, which are drawn on the device, ready for decoding in ``dtype``."""
    with torch.device(device):
        prior = Prior(shape)
    return prior.to(device).for_inference(dtype)


def busy_engine(prior: Prior, batch: int, captions: int = 1, compiled: bool = False) -> Engine:
    """Return an engine with ``batch`` candidates of ``captions`` captions, each halfway down its image."""
    engine = Engine(prior, batch, captions)
    if compiled:
        engine.compile()
    prefix = tuple(i % prior.layout.codebook_size for i in range(prior.layout.image_length // 2))
    for caption in range(captions):
        text = (caption, *CAPTION)[: prior.layout.text_length]
        engine.add(Request(str(caption), text, batch // captions, seed=caption, prefix=prefix))
    engine.step()
    return engine


def time_engine(engine: Engine, steps: int) -> Callable[[], float]:
    """Return a function that times the engine's next ``steps`` and returns the seconds per step."""

    def step() -> None:
        assert engine.step().progress, "the images are finished: take fewer steps or repeats"

    return seconds(step, times=steps)


def time_parts(engine: Engine, steps: int) -> dict[str, float]:
    """Return the seconds per step spent in each of ``PARTS``, and in the whole ``step``; timing adds 1 to 2 %."""
    spent: dict[str, float] = defaultdict(float)

    def timing(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                spent[name] += (time.perf_counter() - begin) / steps

        return timed

    with ExitStack() as patches:
        for name, (owner, attribute) in PARTS.items():
            patches.enter_context(patch.object(owner, attribute, timing(name, getattr(owner, attribute))))
        begin = time.perf_counter()
        for _ in range(steps):
            engine.step()
        spent["step"] = (time.perf_counter() - begin) / steps
    spent["scheduler, requests, results"] = spent["step"] - spent.pop("runner") - spent["captions and slots"]
    return dict(spent)


class DenseSampler:
    """The prior with a dense static cache: each candidate stores its whole stream and attends to all of it.

    Weights and sampling are the engine's. Keys that a layer's mask hides, and entries that are still empty, are masked
    but computed, as in any static cache.
    """

    def __init__(self, prior: Prior, batch: int) -> None:
        self.prior, self.batch, layout = prior, batch, prior.layout
        device, dtype = prior.tokens.weight.device, prior.tokens.weight.dtype
        shape = (batch, prior.config.heads, layout.length, prior.config.head_width)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in prior.kinds]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in prior.kinds]
        masks = {kind: stream_mask(kind, layout.prefix_length, layout.grid) for kind in set(prior.kinds)}
        zeros = torch.zeros(layout.length, layout.length, dtype=dtype)
        self.bias = {kind: zeros.masked_fill(~mask, -torch.inf) for kind, mask in masks.items()}
        self.noise = noise_keys(torch.zeros(batch, dtype=torch.long), torch.arange(batch))

    @torch.inference_mode()
    def measure(self, steps: int) -> float:
        """Return the seconds per step over ``steps`` tokens from the middle of the image on."""
        half, token = self.prior.layout.image_length // 2, torch.zeros(self.batch, dtype=torch.long)
        begin = time.perf_counter()
        for position in range(half, half + steps):
            token = self.step(token, position)
        return (time.perf_counter() - begin) / steps

    def step(self, token: Tensor, position: int) -> Tensor:
        """Feed ``token`` int64 [B] at a raster position, and return the next image tokens int64 [B]."""
        layout = self.prior.layout
        index = layout.prefix_length + position
        indices = torch.full((self.batch, 1), index)
        attends: list[AttentionFn] = [
            partial(self._attend, layer, index, kind) for layer, kind in enumerate(self.prior.kinds)
        ]
        hidden = self.prior((token + layout.image_offset)[:, None], indices, attends)[:, 0]
        positions = torch.full((self.batch,), position + 1)
        return sample(self.prior.image_logits(hidden), self.noise, positions, torch.ones(self.batch))

    def _attend(self, layer: int, index: int, kind: Kind, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, index], values[:, :, index] = k[:, :, 0], v[:, :, 0]
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=self.bias[kind][index : index + 1])


@torch.inference_mode()
def feed_whole_streams(prior: Prior, batch: int, steps: int) -> float:
    """Return the seconds per step without any cache: each feeds the whole stream again, halfway down the image."""
    layout = prior.layout
    text, half = text_tensor([CAPTION[: layout.text_length]] * batch, layout), layout.image_length // 2
    tokens = torch.zeros(batch, layout.image_length, dtype=torch.long)
    keys = noise_keys(torch.zeros(batch, dtype=torch.long), torch.arange(batch))
    begin = time.perf_counter()
    for position in range(half, half + steps):
        hidden = prior(layout.inputs(text, tokens)[:, : layout.prefix_length + position])[:, -1]
        drawn = sample(prior.image_logits(hidden), keys, torch.full((batch,), position), torch.ones(batch))
        tokens[:, position] = drawn
    return (time.perf_counter() - begin) / steps
