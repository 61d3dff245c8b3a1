"""The benchmark for GPUs as far as a CPU can run it: the whole on small sizes, and the shapes of the large ones."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench_gpu import BEGIN, END, BenchGPU, attempt, line, main
from card import Card
from gpu_parts import Part
from models.errors import UserError
from models.presets import get_preset
from samplers import busy_engine, new_prior
from t2i.config import ROOT, run_job

SMALL = BenchGPU(
    device="cpu",
    drawn="tiny",
    candidates=[1, 4],
    compiled=False,
    trained=["tiny"],
    streams=2,
    images=2,
    steps=2,
    repeats=1,
    copied_mb=16,
    product=256,
)
NAMES = [
    "draw with `tiny`, N = 1",
    "draw with `tiny`, N = 4",
    "train `tiny`, 2 streams",
    "encode 32 px",
    "decode 32 px",
    "train the dVAE, 2 images",
]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A copy of the page that `make bench-gpu` writes to."""
    page = tmp_path / "benchmarks.md"
    page.write_text((ROOT / "docs" / "benchmarks.md").read_text())
    return page


def rows(page: Path) -> dict[str, list[str]]:
    """Name -> further cells of the table's lines."""
    table = page.read_text().partition(BEGIN)[2].partition(END)[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    return {name: rest for name, *rest in cells[2:]}


@pytest.mark.slow
def test_the_whole_benchmark_on_a_cpu(page: Path) -> None:
    before = page.read_text()
    main(replace(SMALL, out=str(page)))
    found = rows(page)
    assert list(found) == NAMES
    for name, (ms, rate, bound, share, mfu, theirs, factor) in found.items():
        assert float(ms) > 0
        assert float(rate.split()[0]) > 0
        assert all(float(cell) >= 0 for cell in (bound, share, mfu))
        drawn = name.startswith("draw")
        assert bool(theirs) == bool(factor) == drawn
    main(replace(SMALL, minutes=1e-9, out=str(page)))
    assert {cells[0] for cells in rows(page).values()} == {"no time left"}
    for mark, place in ((BEGIN, 0), (END, -1)):
        assert page.read_text().split(mark)[place] == before.split(mark)[place]


def test_a_page_without_the_marks_is_refused_before_anything_is_timed(page: Path) -> None:
    page.write_text(page.read_text().replace(END, ""))
    with pytest.raises(UserError, match=r"^out is .*benchmarks\.md: add the lines <!--"):
        main(replace(SMALL, out=str(page)))


def test_without_a_gpu_it_ends_with_a_sentence(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", f"out={page}"])
    with pytest.raises(SystemExit) as caught:
        run_job(main, BenchGPU, "bench_gpu")
    assert caught.value.code == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"bench_gpu: torch {torch.__version__} finds no GPU")


def test_what_does_not_fit_says_so_and_the_rest_is_timed() -> None:
    def too_large() -> float:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    end = time.monotonic() + 60
    assert attempt("large", lambda: too_large, 1, end) == "out of memory"
    assert attempt("small", lambda: lambda: 0.5, 1, end) == 0.5


def test_a_line_has_shares_of_the_measured_bound_and_of_the_peak() -> None:
    card = Card("a card", bandwidth=100.0, flops=1000.0, peak=2000.0)
    part = Part("draw", 8, "tokens", flops=500.0, prepare=lambda: lambda: 1.0, moved=25.0)
    assert line(card, part, 1.0, 3.0) == "| draw | 1000.00 | 8 tokens | 500.00 | 0.50 | 0.25 | 3000.00 | 3.00 x |"
    by_bytes = replace(part, moved=75.0)
    assert line(card, by_bytes, 1.0, "") == "| draw | 1000.00 | 8 tokens | 750.00 | 0.75 | 0.25 |  |  |"
    assert line(card, part, "out of memory", 3.0) == "| draw | out of memory |  |  |  |  | 3000.00 |  |"


@pytest.mark.parametrize(("candidates", "gigabytes"), [(1, 0.108), (64, 3.65), (512, 28.9)])
def test_the_engine_of_1b_on_meta_tensors(candidates: int, gigabytes: float) -> None:
    engine = busy_engine(new_prior(get_preset("1b").prior, "bfloat16", "meta"), candidates)
    (progress,) = engine.step().progress.values()
    assert progress.tokens_done == 2 * candidates
    assert engine.cache_bytes / 1e9 == pytest.approx(gigabytes, rel=0.01)
