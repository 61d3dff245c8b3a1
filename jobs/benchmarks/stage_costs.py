"""What the stages of a service cost, measured in one process, with the settings that the service has."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context

import numpy as np
import torch

from harness import medians, seconds
from models.checkpoint import load_model
from models.dvae import DVAE, DVAEConfig
from models.images import to_float, to_uint8
from models.prior import Prior, PriorConfig
from models.reranker import CLIPConfig, CLIPReranker, encode_filled
from models.run_layout import RunLayout
from models.run_sizes import run_sizes
from models.tokenizer import CaptionTokenizer
from t2i.engine import Engine, Request, encode_request
from t2i.serve.config import ServeConfig
from t2i.simulate.costs import BatchCosts, PriorCosts


def prior_costs(config: ServeConfig, candidates: int, rounds: int) -> PriorCosts:
    """Return what the prior costs: medians over images of one request, of one caption in all slots, of many."""
    engine, slots = _engine(config), config.prior.settings.slots
    few, many = min(candidates, slots // 2), max(2, slots // candidates)
    images = {
        used: [_image_seconds(engine, *used) for _ in range(rounds + 1)][1:]
        for used in ((few, 1), (slots, 1), (slots, many))
    }
    one, full, most = (statistics.median(step for _, step in times) for times in images.values())
    prefill = statistics.median((first - step) / many for first, step in images[slots, many])
    slot, caption = max(0.0, (full - one) / (slots - few)), max(0.0, (most - full) / (many - 1))
    return PriorCosts(
        slots=slots,
        image_tokens=engine.layout.image_length,
        step_s=one - slot * few - caption,
        slot_s=slot,
        caption_s=caption,
        prefill_s=max(0.0, prefill),
        came_true=came_true(engine, CaptionTokenizer.load(RunLayout(config.run).tokenizer), few, 3 * rounds),
        cores=config.prior.settings.threads,
    )


def came_true(engine: Engine, tokenizer: CaptionTokenizer, candidates: int, images: int) -> list[float]:
    """Return by place which share of drafts comes true with all before them, as a request of ``candidates`` feels it.

    Drafts at a place that the engine left out, or beyond the image's end, count as wrong. Candidates are differently
    lucky, and a request ends with the slowest: so the shares of images that are drawn one by one are made smaller by as
    much as requests of several take more steps than that.
    """
    made = [tokens for number in range(images) for tokens in _tokens_made(engine, tokenizer, 1, number)]
    shares = [statistics.fmean(tokens > 1 + place for tokens in made) for place in range(engine.window - 1)]
    steps = statistics.fmean(len(_tokens_made(engine, tokenizer, candidates, number)) for number in range(images))
    felt, hoped = engine.layout.image_length / steps - 1, sum(shares)
    return [share * felt / hoped if hoped else 0.0 for share in shares]


def _tokens_made(engine: Engine, tokenizer: CaptionTokenizer, candidates: int, number: int) -> list[int]:
    """Return how many image tokens each step made of a request that is alone."""
    caption, made = f"taco {number}", []  # as locust_users.py asks for
    request, _ = encode_request(
        tokenizer, engine.layout.text_length, caption, caption, candidates=candidates, seed=number
    )
    engine.add(request)
    while engine.has_work:
        made.append(sum(engine.step().accepted.values()))
    return made


def _engine(config: ServeConfig) -> Engine:
    """Return the engine that a replica of the prior has."""
    prior = config.prior
    torch.set_num_threads(prior.settings.threads)
    model = load_model(Prior, PriorConfig, RunLayout(config.run).prior, prior.device, prior.settings.dtype)
    return Engine(model, prior.settings.slots, prior.captions, window=prior.window)


def _image_seconds(engine: Engine, slots: int, captions: int) -> tuple[float, float]:
    """Return the seconds of an image's first step, which reads the captions, and of each further one, on average."""
    for caption in range(captions):
        text = (caption % engine.layout.text_vocabulary, 1, 2)
        engine.add(Request(str(caption), text, slots // captions, seed=caption))
    first = seconds(engine.step)()
    begin, steps = time.perf_counter(), 0
    while engine.has_work:
        engine.step()
        steps += 1
    return first, (time.perf_counter() - begin) / steps


def decoder_costs(config: ServeConfig, rounds: int) -> BatchCosts:
    """Return what the decoder costs: a batch is filled up, so that its images add nothing."""
    torch.set_num_threads(config.decoder.threads_used)
    batch = medians({"": seconds(_decode(config))}, 3 * rounds)[""]
    return BatchCosts(config.decode_batch_used, batch, 0.0, config.decoder.threads_used)


def reranker_costs(config: ServeConfig, rounds: int) -> BatchCosts:
    """Return what the reranker costs: a batch is filled up, and each image is resized by itself."""
    torch.set_num_threads(config.reranker.threads_used)
    layout, replica = RunLayout(config.run), config.reranker
    clip = load_model(CLIPReranker, CLIPConfig, layout.clip, replica.device, replica.dtype)
    image = _decode(config)()[:1]
    prepared = clip.prepare(to_float(image)).expand(config.rank_batch, -1, -1, -1)
    with torch.inference_mode():
        parts: dict[str, Callable[[], object]] = {
            "batch": partial(encode_filled, clip, prepared, config.rank_batch),
            "image": lambda: clip.prepare(to_float(image)),
        }
        took = medians({name: seconds(part) for name, part in parts.items()}, 3 * rounds)
    return BatchCosts(config.rank_batch, took["batch"], took["image"], config.reranker.threads_used)


def busy_cores(config: ServeConfig, for_s: float) -> float:
    """Return how many cores' work the machine does at once: less than it has, where cores share parts or memory.

    That is what prior and decoder reach side by side, each in a process of its own, of what each reaches alone.
    """
    engine = _engine(config)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
        other.submit(_batches_per_second, config, 0.1).result()  # which loads the decoder
        decoder = other.submit(_batches_per_second, config, for_s).result()
        stepping = _steps_per_second(engine, for_s)
        beside = other.submit(_batches_per_second, config, for_s)
        shares = [_steps_per_second(engine, for_s) / stepping, beside.result() / decoder]
    return statistics.fmean(shares) * (config.prior.settings.threads + config.decoder.threads_used)


def _steps_per_second(engine: Engine, for_s: float) -> float:
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() < begin + for_s:
        if not engine.has_work:
            engine.add(Request("0", (1,), engine.slots, seed=0))
        engine.step()
        steps += 1
    return steps / (time.perf_counter() - begin)


def _batches_per_second(config: ServeConfig, for_s: float) -> float:
    torch.set_num_threads(config.decoder.threads_used)
    decode, begin, batches = _decode(config), time.perf_counter(), 0
    while time.perf_counter() < begin + for_s:
        decode()
        batches += 1
    return batches / (time.perf_counter() - begin)


def _decode(config: ServeConfig) -> Callable[[], np.ndarray]:
    """Return a function that decodes a batch of arbitrary tokens to images uint8 [B, H, W, 3]."""
    dvae, grid = (
        _dvae(RunLayout(config.run).dvae, config.decoder.device, config.decoder.dtype),
        run_sizes(config.run).grid,
    )
    tokens = torch.zeros(config.decode_batch_used, grid[0] * grid[1], dtype=torch.long, device=config.decoder.device)

    @torch.inference_mode()
    def decode() -> np.ndarray:
        return to_uint8(dvae.decode(tokens, grid))

    return decode


@cache
def _dvae(directory: str, device: str, dtype: str) -> DVAE:
    return load_model(DVAE, DVAEConfig, directory, device, dtype)
