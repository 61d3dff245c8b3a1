"""Time whole images with and without drafts, in turn, and check that drafts change no token.

    python jobs/benchmarks/bench_drafts.py run=models/trained/small

Drafts come true because images are alike from line to line, so that it takes a trained run and captions that it has
not seen. Candidates are all of one caption. docs/benchmarks.md keeps the results.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from harness import machine, medians
from models.checkpoint import load_model
from models.prior import Prior, PriorConfig
from models.run_layout import RunLayout
from models.settings import setting
from models.tokenizer import CaptionTokenizer
from t2i.config import run_job
from t2i.data import SourceConfig, read_captions
from t2i.engine import Engine, OfflineRun, Request
from t2i.engine.drafting import AUTO_WINDOW
from t2i.evaluate.selection import sample_captions
from t2i.sampling import SamplingParams

HELD_OUT = Path(__file__).parents[1] / "datasets" / "emoji64" / "val.parquet"


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
    """Draws ``captions``, text tokens, one after the other with one engine."""

    def __init__(
        self, prior: Prior, way: Way, captions: Sequence[Sequence[int]], candidates: int, temperature: float
    ) -> None:
        self._engine = Engine(prior, way.slots, window=way.window)
        if way.compiled:
            self._engine.compile()
        self._captions, self._candidates = captions, candidates
        self._sampling = SamplingParams(temperature=temperature)
        self._steps = 0
        self.drawn: list[np.ndarray] = []

    def draw(self) -> float:
        """Draw the candidates of the next caption, and return the seconds that it took."""
        number = len(self.drawn)
        text = tuple(self._captions[number % len(self._captions)])
        request = Request("", text, self._candidates, seed=number, sampling=self._sampling)
        begin = time.perf_counter()
        images = OfflineRun(self._engine, [request]).run(lambda _: self._count())
        taken = time.perf_counter() - begin
        self.drawn.append(images[""].image_tokens)
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
    captions = held_out(layout, priors[dtype].layout.text_length, config.repeats)
    windows = (1, AUTO_WINDOW)
    many, few = ([Way(slots, window, dtype) for window in windows] for slots in (config.slots, config.few_slots))
    int8 = [Way(1, 1, "int8", compiled=True), Way(config.few_slots, AUTO_WINDOW, "int8")]
    for temperature in config.temperatures:
        compare(priors, [*many, *few, *int8], captions, 1, temperature)
    for candidates in (config.slots // 8, config.slots // 2, config.slots):
        compare(priors, many, captions, candidates, 1.0)


def held_out(layout: RunLayout, length: int, count: int) -> list[list[int]]:
    """Return ``count`` captions that the run was not trained on, as text tokens."""
    tokenizer = CaptionTokenizer.load(layout.tokenizer)
    chosen = sample_captions(read_captions(SourceConfig(path=str(HELD_OUT))), count, seed=0)
    return [tokenizer.encode(each.text, length).ids for each in chosen]


def compare(
    priors: dict[str, Prior],
    ways: Sequence[Way],
    captions: Sequence[Sequence[int]],
    candidates: int,
    temperature: float,
) -> None:
    """Print how long each way takes, and how many tokens a step makes.

    Raises:
        RuntimeError: ways that differ by their drafts alone have drawn different tokens.
    """
    drawings = {str(way): Drawing(priors[way.dtype], way, captions, candidates, temperature) for way in ways}
    title = f"{candidates} candidates, temperature {temperature:g}"
    taken = medians({name: each.draw for name, each in drawings.items()}, len(captions), title)
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
