"""Measure what pruning saves in image tokens and loses in CLIP score, on held-out emoji captions.

    python jobs/benchmarks/bench_pruning.py run=runs/tiny

All candidates of every caption are drawn once without pruning. A survivor of pruning has the same tokens as without it,
so the result of every setting can be computed from those, exactly. Some captions are then drawn by the engine under
every setting, to check that it saves as many tokens and returns the same survivors. Figures and machine belong in
docs/benchmarks.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from harness import machine
from models.settings import setting
from t2i.config import run_job
from t2i.data import SourceConfig, read_captions
from t2i.engine import PruningParams, Request, SampledCandidates, TextToImage
from t2i.evaluate.work_list import derived_seed, sample_captions
from t2i.metrics.clip_score import expected_best_of

HELD_OUT = Path(__file__).parents[1] / "datasets" / "emoji64" / "val.parquet"

View = Callable[[np.ndarray], np.ndarray]
"""Makes the images uint8 [n, H', W, 3] that CLIP judges from the first r rows of tokens, int32 [n, r * w]."""


@dataclass
class BenchPruning:
    """The run and captions, and the pruning settings to compare."""

    run: str = setting("runs/tiny", "run directory with tokenizer, dvae, prior and clip, trained")
    captions: int = setting(128, "held-out captions, drawn at random")
    candidates: int = setting(32, "N, the images drawn of each")
    rows: list[int] = setting(lambda: [2, 3, 4, 6], "rows of image tokens after which to judge")
    keep: list[float] = setting(lambda: [0.25, 0.5], "shares of a group to finish")
    group: int = setting(16, "candidates that are judged together")
    drawn: int = setting(16, "captions that are really drawn with pruning")
    slots: int = setting(64, "candidates that run at once")
    seed: int = setting(0, "decides captions and image tokens")
    threads: int = setting(2, "CPU threads")

    def __post_init__(self) -> None:
        for rows in self.rows:
            for keep in self.keep:
                PruningParams(rows, keep, self.group)
        if not 1 <= self.drawn <= self.captions:
            raise ValueError(f"drawn is {self.drawn}: use 1 to captions, which is {self.captions}.")


@dataclass
class Full:
    """C captions drawn without pruning: image tokens [C, n, N], and the CLIP cosines [C, n] of their images."""

    requests: list[Request]
    captions: list[str]
    image_tokens: np.ndarray
    scores: np.ndarray


def main(config: BenchPruning) -> None:
    """Draw all candidates, and print all tables."""
    torch.set_num_threads(config.threads)
    model = TextToImage.load(config.run, config.slots)
    for rows in config.rows:
        PruningParams(rows).check(model.grid)
    full = draw_all(config, model)
    print(machine())
    print(f"{config.captions} captions, {config.candidates} candidates each, judged in groups of {config.group}")
    print(f"mean CLIP cosine {full.scores.mean():.4f}, best of all {full.scores.max(axis=1).mean():.4f}")
    compare_fillings(config, model, full)
    settings = list(judged_settings(config, model, full))
    compare_settings(config, model, full, settings)
    really_prune(config, model, full, settings)


def draw_all(config: BenchPruning, model: TextToImage) -> Full:
    """Draw all candidates without pruning, and score their images."""
    chosen = sample_captions(read_captions(SourceConfig(str(HELD_OUT))), config.captions, config.seed)
    captions = [caption.text for caption in chosen]
    encoded = model.tokenizer.encode_batch(captions, model.engine.layout.text_length)
    requests = [
        Request(caption.id, tuple(text.ids), config.candidates, derived_seed(config.seed, caption.id))
        for caption, text in zip(chosen, encoded, strict=True)
    ]
    drawn = model.sample(requests)
    image_tokens = np.stack([drawn[request.id].image_tokens for request in requests])
    return Full(requests, captions, image_tokens, judged(model, captions, image_tokens, config.group, model.decode))


def judged(model: TextToImage, captions: Sequence[str], image_tokens: np.ndarray, group: int, view: View) -> np.ndarray:
    """Return the CLIP cosines [C, n] of the images that ``view`` makes of tokens [C, n, r * w], in pruning's groups."""
    starts = range(group, image_tokens.shape[1], group)
    scores = [
        [model.rank(view(part), caption).scores.cpu().numpy() for part in np.split(tokens, starts)]
        for caption, tokens in zip(captions, image_tokens, strict=True)
    ]
    return np.stack([np.concatenate(parts) for parts in scores])


def fillings(model: TextToImage) -> dict[str, View]:
    """Return, by name, ways to fill the part of an image whose tokens are not drawn yet."""

    def drawn(image_tokens: np.ndarray) -> np.ndarray:
        rows = image_tokens.shape[1] // model.grid[1]
        return model.preview(image_tokens)[:, : rows * model.dvae.config.downsample]

    def repeated(image_tokens: np.ndarray) -> np.ndarray:
        above = drawn(image_tokens)
        missing = model.image_size - above.shape[1]
        return np.pad(above, ((0, 0), (0, missing), (0, 0), (0, 0)), mode="edge")

    def continued(image_tokens: np.ndarray) -> np.ndarray:
        rows = image_tokens.shape[1] // model.grid[1]
        last = np.tile(image_tokens[:, -model.grid[1] :], model.grid[0] - rows)
        return model.decode(np.concatenate([image_tokens, last], axis=1))

    return {
        "grey": model.preview,
        "cropped": drawn,
        "last pixels repeated": repeated,
        "last tokens repeated": continued,
        "grey, decoded above repeated tokens": model.preview_to_judge,
    }


def compare_fillings(config: BenchPruning, model: TextToImage, full: Full) -> None:
    """Print how well each filling's scores rank candidates like their finished images."""
    print("\n## What fills the part that is not drawn yet: rank correlation with the final score\n")
    print("| rows | " + " | ".join(fillings(model)) + " |")
    print("|---" * (1 + len(fillings(model))) + "|")
    for rows in config.rows:
        begun = full.image_tokens[:, :, : rows * model.grid[1]]
        scores = [judged(model, full.captions, begun, config.group, view) for view in fillings(model).values()]
        print(f"| {rows} | " + " | ".join(with_error(correlations(part, full.scores), 3) for part in scores) + " |")


def judged_settings(config: BenchPruning, model: TextToImage, full: Full) -> Iterator[tuple[PruningParams, np.ndarray]]:
    """Yield every setting with the cosines [C, n] of its previews."""
    for rows in config.rows:
        begun = full.image_tokens[:, :, : rows * model.grid[1]]
        previews = judged(model, full.captions, begun, config.group, model.preview_to_judge)
        for keep in config.keep:
            yield PruningParams(rows, keep, config.group), previews


def compare_settings(
    config: BenchPruning, model: TextToImage, full: Full, settings: Sequence[tuple[PruningParams, np.ndarray]]
) -> None:
    """Print what each setting saves and loses, and the alternative of as many tokens for fewer, unpruned candidates."""
    whole = full.scores.max(axis=1)
    print(f"\n## Best of {config.candidates}, pruned: full {whole.mean():.4f}; loss and gain in CLIP cosine\n")
    print("| rows | keep | tokens saved | pruned best | loss | best survives | fewer, whole: N' | their best | gain |")
    print("|---" * 9 + "|")
    for pruning, previews in settings:
        print(row_of(pruning, model.grid[0], previews, full.scores))


def row_of(pruning: PruningParams, height: int, previews: np.ndarray, scores: np.ndarray) -> str:
    """Return one line of the table; ``gain`` is over the best of as many unpruned candidates as cost the same."""
    assert pruning.rows is not None
    whole, n = scores.max(axis=1), scores.shape[1]
    left = np.stack([pruning.survivors(preview) for preview in previews])
    pruned = np.take_along_axis(scores, left, axis=1).max(axis=1)
    saved = (1 - left.shape[1] / n) * (1 - pruning.rows / height)
    fewer = n * (1 - saved)
    others = best_of_fewer(scores, fewer)
    cells = [
        f"{pruning.rows} of {height}",
        f"{pruning.keep}",
        f"{saved:.1%}",
        f"{pruned.mean():.4f}",
        with_error(whole - pruned, 4),
        f"{(pruned == whole).mean():.0%}",
        f"{fewer:.1f}",
        f"{others.mean():.4f}",
        with_error(pruned - others, 4),
    ]
    return "| " + " | ".join(cells) + " |"


def best_of_fewer(scores: np.ndarray, count: float) -> np.ndarray:
    """Return the expected best [C] of ``count`` random candidates of each caption, interpolated between counts."""
    counts = np.arange(1, scores.shape[1] + 1)
    return np.array([np.interp(count, counts, expected_best_of(row[None])) for row in scores])


def really_prune(
    config: BenchPruning, model: TextToImage, full: Full, settings: Sequence[tuple[PruningParams, np.ndarray]]
) -> None:
    """Draw some captions under every setting, in turn with unpruned ones, and print how they compare."""
    some = slice(config.drawn)
    part = Full(full.requests[some], full.captions[some], full.image_tokens[some], full.scores[some])
    print(f"\n## Really drawn: {config.drawn} captions, {config.slots} slots\n")
    print("| rows | keep | same survivors and tokens | tokens saved | of the ideal | time, ranked images included |")
    print("|---" * 6 + "|")
    for pruning, previews in settings:
        print(really_prune_by(pruning, model, part, previews[some]))


def really_prune_by(pruning: PruningParams, model: TextToImage, full: Full, previews: np.ndarray) -> str:
    """Return one line of the table; ideally all candidates of a group stop once they have their rows."""
    assert pruning.rows is not None
    whole, _ = ranked(model, full, None)
    seconds, drawn = ranked(model, full, pruning)
    of_captions = zip(drawn, previews, full.image_tokens, strict=True)
    same = [is_as_computed(*caption, pruning) for caption in of_captions]
    saved = sum(result.tokens_saved for result in drawn)
    height, width = model.grid
    ideal = sum(full.scores.shape[1] - len(result.candidates) for result in drawn) * (height - pruning.rows) * width
    cells = [
        f"{pruning.rows} of {height}",
        f"{pruning.keep}",
        f"{sum(same)} of {len(same)}",
        f"{saved / full.image_tokens.size:.1%}",
        f"{saved / max(1, ideal):.1%}",
        f"{seconds / whole:.2f} x",
    ]
    return "| " + " | ".join(cells) + " |"


def ranked(model: TextToImage, full: Full, pruning: PruningParams | None) -> tuple[float, list[SampledCandidates]]:
    """Draw the captions of ``full`` again, decode and rank; return the seconds and what was drawn."""
    begin = time.perf_counter()
    drawn = model.sample(full.requests, pruning=pruning, captions=full.captions)
    for request, caption in zip(full.requests, full.captions, strict=True):
        model.rank(model.decode(drawn[request.id].image_tokens), caption)
    return time.perf_counter() - begin, [drawn[request.id] for request in full.requests]


def is_as_computed(
    drawn: SampledCandidates, previews: np.ndarray, image_tokens: np.ndarray, pruning: PruningParams
) -> bool:
    """Return whether a pruned request has the survivors that its previews imply, with their unpruned tokens."""
    expected = pruning.survivors(previews)
    return np.array_equal(drawn.candidates, expected) and np.array_equal(drawn.image_tokens, image_tokens[expected])


def correlations(previews: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation [C] of previews' and final scores [C, n] within each caption."""
    return np.array([spearmanr(*pair).statistic for pair in zip(previews, scores, strict=True)])


def with_error(values: np.ndarray, digits: int) -> str:
    """Format the mean and its standard error over captions."""
    return f"{values.mean():.{digits}f} ± {values.std() / len(values) ** 0.5:.{digits}f}"


if __name__ == "__main__":
    run_job(main, BenchPruning, "bench_pruning")
