"""Time whole images with and without drafts, in turn, and check that drafts change no token.

    python jobs/benchmarks/bench_drafts.py run=models/trained/small

Drafts come true because images are alike from line to line, so that it takes a trained run and captions that it has
not seen. Candidates are all of one caption. docs/benchmarks.md keeps the results.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from harness import machine, medians
from held_out import held_out_captions
from models.checkpoint import load_model
from models.prior import Prior, PriorConfig
from models.run_layout import RunLayout
from models.settings import setting
from models.tokenizer import CaptionTokenizer
from t2i.config import run_job
from t2i.engine import Engine, OfflineRun, Request, encode_request
from t2i.engine.drafting import AUTO_WINDOW
from t2i.sampling import SamplingParams


@dataclass
class BenchDrafts:
    """Which run, and what to time."""

    run: str = setting("models/trained/small", "run directory with tokenizer and prior, trained", path="read")
    slots: int = setting(64, "slots of an engine for many", at_least=2)
    few_slots: int = setting(16, "slots of an engine for one", at_least=2)
    repeats: int = setting(5, "captions, each drawn by all in turn; the median is printed", at_least=1)
    temperatures: list[float] = setting(lambda: [1.0, 0.9, 0.05], "one candidate is drawn at each of these", at_least=0)
    dtype: str = setting("bfloat16", "float32 or bfloat16")
    threads: int = setting(1, "CPU threads", at_least=1)


@dataclass(frozen=True)
class Way:
    """How images are drawn: the engine's slots, its window, the prior's dtype, and whether the step is compiled."""

    slots: int
    window: int
    dtype: str
    compiled: bool = False

    def __str__(self) -> str:
        drafts = f"up to {self.window - 1} drafts" if self.window > 1 else "no drafts"
        return f"{self.slots} slots, {self.dtype}{', compiled' if self.compiled else ''}, {drafts}"


class Drawing:
    """Draws ``requests`` one after the other with one engine."""

    def __init__(self, prior: Prior, way: Way, requests: Sequence[Request]) -> None:
        self._engine = Engine(prior, way.slots, window=way.window)
        if way.compiled:
            self._engine.compile()
        self._requests = requests
        self._steps = 0
        self.drawn: list[np.ndarray] = []

    def draw(self) -> float:
        """Draw the candidates of the next request, and return the seconds that it took."""
        request = self._requests[len(self.drawn) % len(self._requests)]
        begin = time.perf_counter()
        images = OfflineRun(self._engine, [request]).run(lambda _: self._count())
        taken = time.perf_counter() - begin
        self.drawn.append(images[request.id].image_tokens)
        return taken

    @property
    def tokens_a_step(self) -> float:
        """Image tokens that a step made of a candidate, on average."""
        return sum(len(tokens[0]) for tokens in self.drawn) / self._steps

    def _count(self) -> None:
        self._steps += 1


def main(config: BenchDrafts) -> None:
    """Print a table for one candidate at each temperature, and one for each larger number of candidates."""
    torch.set_num_threads(config.threads)
    print(machine())
    layout, dtype = RunLayout(config.run), config.dtype
    priors = {name: load_model(Prior, PriorConfig, layout.prior, dtype=name) for name in {dtype, "int8"}}
    new_requests = partial(requests, layout, priors[dtype].layout.text_length, config.repeats)
    windows = (1, AUTO_WINDOW)
    many, few = ([Way(slots, window, dtype) for window in windows] for slots in (config.slots, config.few_slots))
    int8 = [Way(1, 1, "int8", compiled=True), Way(config.few_slots, AUTO_WINDOW, "int8")]
    for temperature in config.temperatures:
        compare(priors, [*many, *few, *int8], new_requests(1, temperature))
    for candidates in (config.slots // 8, config.slots // 2, config.slots):
        compare(priors, many, new_requests(candidates, 1.0))


def requests(layout: RunLayout, text_length: int, count: int, candidates: int, temperature: float) -> list[Request]:
    """Return requests for so many ``candidates`` of each of ``count`` captions that the run was not trained on."""
    encode = partial(encode_request, CaptionTokenizer.load(layout.tokenizer), text_length)
    sampling = SamplingParams(temperature=temperature)
    return [
        encode(caption.id, caption.text, candidates=candidates, seed=seed, sampling=sampling)[0]
        for seed, caption in enumerate(held_out_captions(count, seed=0))
    ]


def compare(priors: dict[str, Prior], ways: Sequence[Way], requests: Sequence[Request]) -> None:
    """Print how long each way takes for ``requests`` that differ by their captions, and how many tokens a step makes.

    Raises:
        RuntimeError: ways that differ by their drafts alone have drawn different tokens.
    """
    drawings = {str(way): Drawing(priors[way.dtype], way, requests) for way in ways}
    title = f"{requests[0].candidates} candidates, temperature {requests[0].sampling.temperature:g}"
    taken = medians({name: each.draw for name, each in drawings.items()}, len(requests), title)
    print(f"\n| {title} | tokens a step | s | beside the first |\n|---|---|---|---|")
    for name, each in drawings.items():
        print(f"| {name} | {each.tokens_a_step:.2f} | {taken[name]:.2f} | {taken[str(ways[0])] / taken[name]:.2f} x |")
    for one, other in pairwise(ways):
        if (one.slots, one.dtype) == (other.slots, other.dtype):
            pairs = zip(drawings[str(one)].drawn, drawings[str(other)].drawn, strict=True)
            if not all(np.array_equal(*pair) for pair in pairs):
                raise RuntimeError(f"{title}: {one} and {other} have drawn different tokens.")


if __name__ == "__main__":
    run_job(main, BenchDrafts, "bench_drafts")
