"""How long steps of a prior take on this machine, by dtype, slots and threads."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

import torch

from models.devices import device_of
from models.prior import Prior
from t2i.engine import Engine, Request
from t2i.serve.auto.choice import LATENCY_FACTOR, EngineSettings, Timing

ROUNDS = 2
STEPS = 3
"""Steps of each of the settings in a row, and how often they take turns; the shortest step counts, since what other
processes do (when a service starts, its other replicas load their models) only ever makes one longer."""

MARGIN = 1.5
"""By so much a first step may be longer than allowed before larger ones are left out."""

CANDIDATES = 8
"""Candidates of each caption in a step: as many as ``t2i generate`` asks for."""

CACHE_SHARE = 8
"""Keys and values of the image tokens may take one part in so many of the memory that is free."""


def measure(
    load: Callable[[str], Prior],
    dtypes: Iterable[str],
    slots: Sequence[int],
    threads: Sequence[int],
    captions: int | None = None,
) -> list[Timing]:
    """Return the time of a step for each of the settings, but for those of more slots than fit or are worth a try.

    ``load`` returns the prior in a dtype, of which one is held at a time. ``slots`` ascend. ``captions`` bounds how
    many different ones run at once. torch's number of threads is changed.
    """
    timings: list[Timing] = []
    for dtype in dtypes:
        prior = load(dtype)
        fastest = min((timing.seconds for timing in timings), default=math.inf)
        engines = _engines(prior, slots, captions, fastest)
        for setting, seconds in _shortest_steps(engines, threads, device_of(prior)).items():
            timings.append(Timing(EngineSettings(dtype, *setting), seconds))
    return timings


def _engines(prior: Prior, slots: Sequence[int], captions: int | None, fastest: float) -> dict[int, Engine]:
    """Return engines by slots, from the fewest up to where memory or time would be too much; each is warmed up."""
    engines: dict[int, Engine] = {}
    device = device_of(prior)
    for count in slots:
        engine = Engine(prior, count, min(captions or count, max(1, count // CANDIDATES)))
        if engines and engine.cache_bytes > _free_bytes(device) / CACHE_SHARE:
            break
        engines[count] = engine
        _step(engine, device)  # with the captions' prefill
        seconds = min(_step(engine, device) for _ in range(2))
        fastest = min(fastest, seconds)
        if seconds > MARGIN * LATENCY_FACTOR * fastest:
            break
    return engines


def _shortest_steps(
    engines: Mapping[int, Engine], threads: Sequence[int], device: torch.device
) -> dict[tuple[int, int], float]:
    """Return the seconds of the shortest step by (slots, threads)."""
    shortest: dict[tuple[int, int], float] = {}
    for _, (count, slots) in product(range(ROUNDS), product(threads, engines)):
        torch.set_num_threads(count)
        seconds = min(_step(engines[slots], device) for _ in range(STEPS))
        shortest[slots, count] = min(seconds, shortest.get((slots, count), seconds))
    return shortest


def _step(engine: Engine, device: torch.device) -> float:
    """Return the seconds of a step of full slots."""
    if not engine.has_work:
        _fill(engine)
    begin = time.perf_counter()
    engine.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def _fill(engine: Engine) -> None:
    """Add requests of different captions, as many candidates as there are slots."""
    for number in range(engine.captions):
        text = (number % engine.layout.text_vocabulary,)
        engine.add(Request(f"measured {number}", text, engine.slots // engine.captions, seed=number))


def _free_bytes(device: torch.device) -> int:
    """Return the memory in bytes that nobody uses."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
