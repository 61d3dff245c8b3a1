"""What pruning candidates part-way saves, and what it costs in CLIP score, on held-out emoji captions.

    python jobs/benchmarks/bench_pruning.py run=runs/tiny

All candidates of every caption are sampled once. Pruning does not change the tokens of the candidates that
it finishes, so the exact outcome of every setting is computed from these samples. For some captions the engine also
samples with every setting, to check that it saves what it should and returns the same candidates. Keep the results in
docs/benchmarks.md, with a description of the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr

from harness import machine
from held_out import held_out_captions
from models.settings import setting
from t2i.config import run_job
from t2i.engine import PruningParams, SampledCaption, TextToImage
from t2i.evaluate.work_list import derived_seed
from t2i.metrics.clip_score import expected_best_of

View = Callable[[np.ndarray], np.ndarray]
"""Image tokens int32 [n, r * w] of the first r rows -> images uint8 [n, H', W, 3] for CLIP to score; H' may be < H."""


@dataclass
class BenchPruning:
    """Which run and captions, and the settings to compare."""

    run: str = setting("runs/tiny", "run directory with tokenizer, dvae, prior and clip, trained", path="read")
    captions: int = setting(128, "held-out captions, chosen at random", at_least=1)
    candidates: int = setting(32, "images sampled for each caption", at_least=1)
    rows: list[int] = setting(lambda: [2, 3, 4, 6], "rows of image tokens after which to score", at_least=1)
    keep: list[float] = setting(lambda: [0.25, 0.5], "shares of a group of candidates to finish", above=0, at_most=1)
    group: int = setting(16, "candidates that are scored together", at_least=2)
    pruned: int = setting(16, "captions that are also sampled with pruning", at_least=1)
    slots: int = setting(64, "candidates that are sampled at once", at_least=1)
    seed: int = setting(0, "seed of the choice of captions and of the image tokens", at_least=0)
    threads: int = setting(2, "CPU threads", at_least=1)

    def __post_init__(self) -> None:
        for rows in self.rows:
            for keep in self.keep:
                PruningParams(rows, keep, self.group)
        if self.pruned > self.captions:
            raise ValueError(f"pruned is {self.pruned}: use 1 to captions, which is {self.captions}.")


@dataclass
class Unpruned:
    """Every candidate of every caption: image tokens [captions, n, N] and CLIP cosines [captions, n] of its image."""

    captions: list[str]
    seeds: list[int]
    image_tokens: np.ndarray
    scores: np.ndarray


def main(config: BenchPruning) -> None:
    """Print the tables of docs/benchmarks.md on pruning."""
    torch.set_num_threads(config.threads)
    model = TextToImage.load(config.run, config.slots)
    for rows in config.rows:
        PruningParams(rows).check(model.grid)
    unpruned = sample_all(config, model)
    print(machine())
    print(f"{config.captions} captions, {config.candidates} candidates each, scored in groups of {config.group}")
    print(f"mean CLIP cosine {unpruned.scores.mean():.4f}, best of all {unpruned.scores.max(axis=1).mean():.4f}")
    compare_fillings(config, model, unpruned)
    settings = list(scored_settings(config, model, unpruned))
    compare_settings(config, model, unpruned, settings)
    compare_with_engine(config, model, unpruned, settings)


def sample_all(config: BenchPruning, model: TextToImage) -> Unpruned:
    """Sample the captions without pruning, and score the finished images."""
    chosen = held_out_captions(config.captions, config.seed)
    captions = [caption.text for caption in chosen]
    seeds = [derived_seed(config.seed, caption.id) for caption in chosen]
    sampled = model.sample(captions, candidates=config.candidates, seeds=seeds)
    image_tokens = np.stack([caption.image_tokens for caption in sampled])
    scores = preview_scores(model, captions, image_tokens, config.group, model.decode)
    return Unpruned(captions, seeds, image_tokens, scores)


def preview_scores(
    model: TextToImage, captions: Sequence[str], image_tokens: np.ndarray, group: int, view: View
) -> np.ndarray:
    """Return CLIP cosines [captions, n] of what ``view`` shows of image tokens [captions, n, r * w].

    The candidates of a caption are scored group by group, as pruning does it.
    """
    starts = range(group, image_tokens.shape[1], group)
    scores = [
        [model.rank(view(part), caption).scores.cpu().numpy() for part in np.split(tokens, starts)]
        for caption, tokens in zip(captions, image_tokens, strict=True)
    ]
    return np.stack([np.concatenate(parts) for parts in scores])


def fillings(model: TextToImage) -> dict[str, View]:
    """Return ways to show CLIP an image of which only the top rows are sampled yet, by their names."""

    def cropped(image_tokens: np.ndarray) -> np.ndarray:
        rows = image_tokens.shape[1] // model.grid[1]
        return model.preview(image_tokens)[:, : rows * model.dvae.config.downsample]

    def repeated(image_tokens: np.ndarray) -> np.ndarray:
        above = cropped(image_tokens)
        missing = model.image_size - above.shape[1]
        return np.pad(above, ((0, 0), (0, missing), (0, 0), (0, 0)), mode="edge")

    def continued(image_tokens: np.ndarray) -> np.ndarray:
        rows = image_tokens.shape[1] // model.grid[1]
        last = np.tile(image_tokens[:, -model.grid[1] :], model.grid[0] - rows)
        return model.decode(np.concatenate([image_tokens, last], axis=1))

    return {
        "grey": model.preview,
        "cropped": cropped,
        "last pixels repeated": repeated,
        "last tokens repeated": continued,
        "grey, decoded above repeated tokens": model.preview_to_score,
    }


def compare_fillings(config: BenchPruning, model: TextToImage, unpruned: Unpruned) -> None:
    """Print how well the scores of each kind of preview agree with the finished images' scores."""
    print("\n## What fills the rows not yet sampled: rank correlation with the final score\n")
    print("| rows | " + " | ".join(fillings(model)) + " |")
    print("|---" * (1 + len(fillings(model))) + "|")
    for rows in config.rows:
        top_rows = unpruned.image_tokens[:, :, : rows * model.grid[1]]
        scores = [
            preview_scores(model, unpruned.captions, top_rows, config.group, view) for view in fillings(model).values()
        ]
        print(f"| {rows} | " + " | ".join(with_error(correlations(part, unpruned.scores), 3) for part in scores) + " |")


def scored_settings(
    config: BenchPruning, model: TextToImage, unpruned: Unpruned
) -> Iterator[tuple[PruningParams, np.ndarray]]:
    """Yield every setting with the CLIP cosines [captions, n] of the previews that it scores candidates by."""
    for rows in config.rows:
        top_rows = unpruned.image_tokens[:, :, : rows * model.grid[1]]
        previews = preview_scores(model, unpruned.captions, top_rows, config.group, model.preview_to_score)
        for keep in config.keep:
            yield PruningParams(rows, keep, config.group), previews


def compare_settings(
    config: BenchPruning, model: TextToImage, unpruned: Unpruned, settings: Sequence[tuple[PruningParams, np.ndarray]]
) -> None:
    """Print what each setting saves and loses, next to fewer candidates without pruning for as many image tokens."""
    whole = unpruned.scores.max(axis=1)
    print(f"\n## Best of {config.candidates}, pruned: all {whole.mean():.4f}; loss and gain in CLIP cosine\n")
    print("| rows | keep | tokens saved | pruned best | loss | best survives | fewer, whole: N' | their best | gain |")
    print("|---" * 9 + "|")
    for pruning, previews in settings:
        print(row_of(pruning, model.grid[0], previews, unpruned.scores))


def row_of(pruning: PruningParams, height: int, previews: np.ndarray, scores: np.ndarray) -> str:
    """Return one line of the table: the outcome of a setting, beside N' unpruned candidates of as many tokens.

    ``previews`` and ``scores`` are CLIP cosines [captions, n] of previews and finished images. "loss" is how much lower
    the best cosine is than without pruning, "gain" how much higher than the best of N' candidates.
    """
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
    """Return the expected best score [captions] of ``count`` random candidates each; between integers, interpolated."""
    counts = np.arange(1, scores.shape[1] + 1)
    return np.array([np.interp(count, counts, expected_best_of(row[None])) for row in scores])


def compare_with_engine(
    config: BenchPruning,
    model: TextToImage,
    unpruned: Unpruned,
    settings: Sequence[tuple[PruningParams, np.ndarray]],
) -> None:
    """Sample some captions with every setting, and print how the outcome compares with what was computed."""
    some = slice(config.pruned)
    part = Unpruned(unpruned.captions[some], unpruned.seeds[some], unpruned.image_tokens[some], unpruned.scores[some])
    print(f"\n## Sampled with pruning: {config.pruned} captions, {config.slots} slots\n")
    print("| rows | keep | same survivors and tokens | tokens saved | of the ideal | time, ranked images included |")
    print("|---" * 6 + "|")
    for pruning, previews in settings:
        print(row_of_engine(pruning, model, part, previews[some]))


def row_of_engine(pruning: PruningParams, model: TextToImage, unpruned: Unpruned, previews: np.ndarray) -> str:
    """Return one line of the table; ideally every dropped candidate stops as soon as it has ``rows`` rows.

    The captions are sampled without pruning as well, just before, so that both times are of the same moment.
    """
    assert pruning.rows is not None
    whole, _ = time_generation(model, unpruned, None)
    seconds, sampled = time_generation(model, unpruned, pruning)
    of_captions = zip(sampled, previews, unpruned.image_tokens, strict=True)
    same = [is_as_computed(*caption, pruning) for caption in of_captions]
    saved = sum(result.tokens_saved for result in sampled)
    height, width = model.grid
    stopped = sum(unpruned.scores.shape[1] - len(result.candidates) for result in sampled)
    ideal = stopped * (height - pruning.rows) * width
    cells = [
        f"{pruning.rows} of {height}",
        f"{pruning.keep}",
        f"{sum(same)} of {len(same)}",
        f"{saved / unpruned.image_tokens.size:.1%}",
        f"{saved / max(1, ideal):.1%}",
        f"{seconds / whole:.2f} x",
    ]
    return "| " + " | ".join(cells) + " |"


def time_generation(
    model: TextToImage, unpruned: Unpruned, pruning: PruningParams | None
) -> tuple[float, Sequence[SampledCaption]]:
    """Sample, decode and rank the captions once more; return the seconds that it took and the result."""
    candidates, begin = unpruned.scores.shape[1], time.perf_counter()
    generated = model.generate(unpruned.captions, candidates=candidates, seeds=unpruned.seeds, pruning=pruning)
    return time.perf_counter() - begin, generated


def is_as_computed(
    sampled: SampledCaption, previews: np.ndarray, image_tokens: np.ndarray, pruning: PruningParams
) -> bool:
    """Return whether exactly the candidates with the best ``previews`` [n] were finished, with the expected tokens."""
    expected = pruning.survivors(previews)
    return np.array_equal(sampled.candidates, expected) and np.array_equal(sampled.image_tokens, image_tokens[expected])


def correlations(previews: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return each caption's rank correlation (Spearman), [captions], of previews and scores [captions, n]."""
    return np.array([spearmanr(*pair).statistic for pair in zip(previews, scores, strict=True)])


def with_error(values: np.ndarray, digits: int) -> str:
    """Format the mean of values [captions] and its standard error."""
    return f"{values.mean():.{digits}f} ± {values.std() / len(values) ** 0.5:.{digits}f}"


if __name__ == "__main__":
    run_job(main, BenchPruning, "bench_pruning")
