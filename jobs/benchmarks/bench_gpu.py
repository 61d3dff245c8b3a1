"""Time drawing, training and the dVAE on a GPU, beside what the card reaches, and write the table into the docs.

    python jobs/benchmarks/bench_gpu.py                                                               (make bench-gpu)

First a copy and a large product are timed: the bound of everything else. Then come our parts, and at last drawing by
transformers. Weights are random. What does not fit into the card's memory or was not begun within ``minutes`` says so
in the table, which takes the place of the one between the two marks in ``out``.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from card import Card, measured_card
from gpu_parts import Part, Prepare, Sizes, parts
from harness import medians
from models.devices import require_gpu
from models.errors import UserError
from models.settings import setting
from t2i.config import run_job

BEGIN, END = "<!-- make bench-gpu writes from here -->", "<!-- to here -->"
COLUMNS = ("", "ms", "a second", "bound, ms", "of the bound", "MFU", "transformers, ms", "ours is")


@dataclass
class BenchGPU(Sizes):
    """What is timed, for how long, and where the table is written."""

    copied_mb: int = setting(2048, "MB that are copied to measure the memory's bandwidth", at_least=1)
    product: int = setting(8192, "rows and columns of the matrices whose product is timed", at_least=1)
    minutes: float = setting(5.0, "minutes after which nothing further is begun", above=0)
    out: str = setting("docs/benchmarks.md", "page that has the two marks", path="file")


def main(config: BenchGPU) -> None:
    """Time all parts and write the table."""
    if config.device == "cuda":
        require_gpu()
    before, after = around_marks(config.out)
    end = time.monotonic() + 60 * config.minutes
    card = measured_card(config.device, config.copied_mb * 2**20, config.product)
    print(card.words)
    chosen = list(parts(config))
    ours = [attempt(part.name, part.prepare, config.repeats, end) for part in chosen]
    theirs = [
        attempt(f"{part.name}, transformers", part.peer, config.repeats, end) if part.peer else "" for part in chosen
    ]
    lines = [line(card, *row) for row in zip(chosen, ours, theirs, strict=True)]
    table = section(card, lines)
    print(table)
    Path(config.out).write_text(before + table + after)


def around_marks(page: str) -> tuple[str, str]:
    """Return what is before the first mark and what is after the second.

    Raises:
        UserError: the page has no such marks.
    """
    before, _, rest = (Path(page).read_text() if Path(page).is_file() else "").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise UserError(f"out is {page}: add the lines {BEGIN} and {END} where the table is to be.")
    return before, after


def attempt(name: str, prepare: Prepare, repeats: int, end: float) -> float | str:
    """Return the median seconds of what is prepared, or why there are none; it is also printed."""
    gc.collect()
    torch.compiler.reset()  # frees CUDA graphs, and what torch.compile counts towards its limit of variants
    torch.cuda.empty_cache()
    taken: float | str
    try:
        taken = medians({name: prepare()}, repeats)[name] if time.monotonic() < end else "no time left"
    except torch.OutOfMemoryError:
        taken = "out of memory"
    print(f"{name}: {taken if isinstance(taken, str) else f'{1e3 * taken:.2f} ms'}", flush=True)
    return taken


def line(card: Card, part: Part, ours: float | str, theirs: float | str) -> str:
    """Return a part's line of the table."""
    cells = [part.name, ours, *[""] * 4] if isinstance(ours, str) else [part.name, *speeds(card, part, ours)]
    if isinstance(theirs, str):
        cells += [theirs, ""]
    else:
        cells += [f"{1e3 * theirs:.2f}", "" if isinstance(ours, str) else f"{theirs / ours:.2f} x"]
    return f"| {' | '.join(cells)} |"


def speeds(card: Card, part: Part, seconds: float) -> list[str]:
    """Return the cells from ``ms`` to ``MFU``."""
    bound = card.bound(part.flops, part.moved)
    return [
        f"{1e3 * seconds:.2f}",
        f"{part.count / seconds:.0f} {part.unit}",
        f"{1e3 * bound:.2f}",
        f"{bound / seconds:.2f}",
        f"{part.flops / seconds / card.peak:.2f}",
    ]


def section(card: Card, lines: list[str]) -> str:
    """Return all from one mark to the other."""
    limits = (
        f"A copy reads and writes {card.bandwidth / 1e12:.2f} TB/s, a product in bf16 runs at {card.flops / 1e12:.0f} "
        f"TFLOP/s; MFU is of {card.peak / 1e12:.0f} TFLOP/s."
    )
    header = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([BEGIN, "", f"{card.words}. {limits}", "", *header, *lines, "", END])


if __name__ == "__main__":
    run_job(main, BenchGPU, "bench_gpu")
