"""Which captions the report shows, and that their pictures are those that were drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from models.checkpoint import load_model
from models.dvae import DVAE, DVAEConfig
from models.images import to_uint8
from models.run_layout import RunLayout
from t2i.evaluate.candidates import SCHEMA, CaptionCandidates, encode_shard, shard_record
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.gallery import choose_galleries, load_cards
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.shards import ShardFolder
from t2i.evaluate.work_list import WorkItem

decode_cards: Any = cast(Any, load_cards)._function
"""What the Ray task runs, here in the test's own process."""

IDS = [f"c{n}" for n in range(10)]
SCORES = [0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6, 0.0]


def test_best_median_and_worst_are_by_score() -> None:
    galleries = choose_galleries(IDS, SCORES, 2, seed=0)
    assert galleries.best == ["c2", "c6"]
    assert galleries.median == ["c0", "c7"]  # 0.5, 0.4: the fifth and sixth of ten
    assert galleries.worst == ["c9", "c1"]


def test_the_sample_is_a_function_of_the_seed_and_keeps_the_captions_order() -> None:
    samples = [choose_galleries(IDS, SCORES, 4, seed).sample for seed in (0, 0, 1)]
    assert samples[0] == samples[1] != samples[2]
    assert all(sample == sorted(sample) and len(set(sample)) == 4 for sample in samples)


def test_a_small_set_is_shown_whole_and_none_if_none_are_wanted() -> None:
    whole = choose_galleries(IDS[:3], SCORES[:3], 12, seed=0)
    assert whole.sample == IDS[:3]
    assert whole.best == whole.median == whole.worst[::-1] == ["c2", "c0", "c1"]
    assert choose_galleries(IDS, SCORES, 0, seed=0).ids == []


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[SetLayout, np.ndarray, np.ndarray]:
    """A shard with ten candidates of one caption: its layout, tokens and scores."""
    random = np.random.default_rng(0)
    tokens, scores = random.integers(0, 32, (10, 64)), random.permutation(10).astype(np.float32) / 10
    candidates = CaptionCandidates(WorkItem("a", "a red circle", "i", 3), False, np.arange(10), tokens, scores)
    tables = [candidates.table(np.zeros((10, 32, 32, 3), np.uint8), keep="none").cast(SCHEMA)]
    layout = SetLayout(str(tmp_path))
    ShardFolder(layout.candidates, ".parquet").write(0, encode_shard(tables), shard_record(tables))
    return layout, tokens, scores


def test_cards_decode_the_best_candidates_tokens(
    tiny_run: Path, drawn: tuple[SetLayout, np.ndarray, np.ndarray]
) -> None:
    layout, tokens, scores = drawn
    real, config = np.full((32, 32, 3), 7, np.uint8), EvaluateConfig(run=str(tiny_run), shown_candidates=4)
    card = decode_cards({"a": (0, 0)}, {"i": real}, layout, config)["a"]
    best = np.argsort(-scores)[:4]
    dvae = load_model(DVAE, DVAEConfig, RunLayout(tiny_run).dvae)
    assert card.caption == "a red circle"
    np.testing.assert_array_equal(card.scores, scores[best])
    np.testing.assert_array_equal(card.images, to_uint8(dvae.decode(torch.from_numpy(tokens[best]))))
    np.testing.assert_array_equal(card.real, real)


def test_a_caption_without_an_image_has_a_card_without_one(
    tiny_run: Path, drawn: tuple[SetLayout, np.ndarray, np.ndarray]
) -> None:
    card = decode_cards({"a": (0, 0)}, {}, drawn[0], EvaluateConfig(run=str(tiny_run)))["a"]
    assert card.real is None
