"""What bench_gpu.py times: the engine, training steps, and the dVAE's two halves, each with the work that it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from harness import seconds
from models.dvae import DVAE, DVAEConfig, dvae_flops
from models.precision import cast_for_inference
from models.presets import get_preset
from models.settings import setting
from peers import hf_static_cache
from samplers import busy_engine, new_prior, time_engine
from step_work import step_work
from t2i.config import ROOT
from t2i.data.columns import caption_array
from t2i.train import TrainConfig
from t2i.train.loader.feed import InMemorySource
from t2i.train.loop import TrainLoop
from t2i.train.parallel import Worker
from t2i.train.tasks.base import Columns, Task
from t2i.train.tasks.dvae import DVAETask, DVAETaskConfig
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig
from unreported import NullReporter

TOKENIZER = ROOT / "models" / "trained" / "small" / "tokenizer"
CAPTION = "a"
"""A single byte, which every preset's vocabulary has: a step costs the same whatever the caption."""

Prepare = Callable[[], Callable[[], float]]
"""Builds something and returns a function that times it once: the seconds of one go."""


@dataclass
class Sizes:
    """Settings: what is timed, how large, and how often."""

    device: str = setting("cuda", "cuda, or cpu: the same on a CPU, for tests")
    drawn: str = setting("1b", "preset whose prior draws, and whose dVAE encodes, decodes and is trained")
    candidates: list[int] = setting(lambda: [1, 64, 512], "candidates of a caption that are drawn at once", at_least=1)
    compiled: bool = setting(True, "compile the step that draws")
    trained: list[str] = setting(lambda: ["base", "1b"], "presets whose priors are trained")
    streams: int = setting(8, "streams of a step that trains a prior", at_least=1)
    images: int = setting(16, "images that the dVAE encodes, decodes or is trained on at once", at_least=1)
    steps: int = setting(16, "steps in one timing of drawing and training", at_least=1)
    repeats: int = setting(5, "timings of each part; the median counts", at_least=1)


@dataclass(frozen=True)
class Part:
    """Something to time, which makes ``count`` of ``unit`` (a plural) in one go of so many FLOPs.

    ``moved`` is the bytes of memory that a go has to read at least, ``peer`` another implementation of the same.
    """

    name: str
    count: int
    unit: str
    flops: float
    prepare: Prepare
    moved: float = 0
    peer: Prepare | None = None


def parts(sizes: Sizes) -> Iterator[Part]:
    """Yield all parts, in the order in which they are timed."""
    yield from (drawing(sizes, count) for count in sizes.candidates)
    yield from (prior_training(sizes, preset) for preset in sizes.trained)
    yield from dvae(sizes)


def drawing(sizes: Sizes, candidates: int) -> Part:
    """Return the engine's step for so many candidates of one caption, halfway down the image."""
    shape = get_preset(sizes.drawn).prior
    work = step_work(shape, candidates)

    def prepare() -> Callable[[], float]:
        prior = new_prior(shape, "bfloat16", sizes.device)
        return time_engine(busy_engine(prior, candidates, compiled=sizes.compiled), sizes.steps)

    def peer() -> Callable[[], float]:
        return hf_static_cache(shape, candidates, "bfloat16", sizes.steps, sizes.device).seconds_per_step

    name = f"draw with `{sizes.drawn}`, N = {candidates}"
    return Part(name, candidates, "tokens", work.flops, prepare, work.bytes, peer)


def prior_training(sizes: Sizes, preset: str) -> Part:
    """Return a step that trains a preset's prior on random image tokens."""
    config = PriorTaskConfig(model=get_preset(preset).prior)
    tokens = (sizes.streams, config.model.layout.image_length)
    columns = {
        "captions": caption_array([[CAPTION]] * sizes.streams),
        "image_tokens": np.random.default_rng(0).integers(config.model.codebook_size, size=tokens, dtype=np.int32),
    }
    task = PriorTask(config, str(TOKENIZER), dvae="")
    return training(sizes, f"train `{preset}`, {sizes.streams} streams", task, columns, sizes.streams)


def dvae(sizes: Sizes) -> Iterator[Part]:
    """Yield the dVAE's encoder and decoder in bf16, and a step that trains it, on random images."""
    preset = get_preset(sizes.drawn)
    side, flops = preset.image_size, dvae_flops(preset.dvae, preset.image_size)
    images, tokens = (sizes.images, 3, side, side), (sizes.images, preset.prior.layout.image_length)

    def encode() -> Callable[[], float]:
        return seconds(partial(new_dvae(preset.dvae, sizes.device).encode, torch.rand(images, device=sizes.device)))

    def decode() -> Callable[[], float]:
        drawn = torch.randint(preset.dvae.codebook_size, tokens, device=sizes.device)
        return seconds(partial(new_dvae(preset.dvae, sizes.device).decode, drawn))

    yield Part(f"encode {side} px", sizes.images, "images", sizes.images * (flops.pixels + flops.encoder), encode)
    yield Part(f"decode {side} px", sizes.images, "images", sizes.images * flops.decoder, decode)
    task = DVAETask(DVAETaskConfig(model=preset.dvae, image_size=side, augment=False))
    pixels = np.random.default_rng(0).integers(256, size=(sizes.images, side, side, 3), dtype=np.uint8)
    yield training(sizes, f"train the dVAE, {sizes.images} images", task, {"pixels": pixels}, sizes.images)


def new_dvae(config: DVAEConfig, device: str) -> DVAE:
    """Return a dVAE of random weights, ready to encode and decode in bf16."""
    with torch.device(device):
        return cast_for_inference(DVAE(config).eval(), "bfloat16")


def training(sizes: Sizes, name: str, task: Task, columns: Columns, rows: int) -> Part:
    """Return a step of the training loop on ``rows`` rows in bf16: data, forward, backward, AdamW, EMA.

    The EMA is updated once in a timing: its thread, on the host, takes seconds for a billion weights.
    """
    task.optimizer.ema_every = sizes.steps
    train = TrainConfig(steps=sizes.steps * (sizes.repeats + 1), batch_size=rows)
    worker = Worker(device=torch.device(sizes.device))

    def prepare() -> Callable[[], float]:
        loop = TrainLoop(task, train, InMemorySource(columns), columns, NullReporter(), worker)
        return seconds(loop.run_step, times=sizes.steps)

    work = task.work(rows)
    assert work.flops is not None
    return Part(name, work.count, work.unit, work.flops, prepare)
