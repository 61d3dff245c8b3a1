from __future__ import annotations

import numpy as np
import pytest

from t2i.metrics import blocks
from t2i.metrics.retrieval import r_precision, recall_at, retrieval_ranks


def unit(seed: int, n: int) -> np.ndarray:
    features = np.random.default_rng(seed).normal(size=(n, 6))
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_ranks_count_the_targets_that_fit_better() -> None:
    captions = np.eye(4)
    images = np.array([[1, 0, 0, 0], [0.9, 0.1, 0, 0], [0.4, 0.3, 0.2, 0.1], [0, 0, 0, 1.0]])
    ranks = retrieval_ranks(images, captions)
    assert ranks.tolist() == [1, 2, 3, 1]
    assert [recall_at(ranks, k) for k in (1, 2, 3)] == [0.5, 0.75, 1.0]


def test_blocks_do_not_change_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    images, captions = unit(0, 40), unit(1, 40)
    whole = retrieval_ranks(images, captions)
    monkeypatch.setattr(blocks.row_blocks, "__defaults__", (7,))
    assert np.array_equal(retrieval_ranks(images, captions), whole)


def test_r_precision_is_chance_for_noise_and_certain_for_pairs() -> None:
    images, captions = unit(2, 1500), unit(3, 1500)
    assert r_precision(images, captions, others=9).mean() == pytest.approx(0.1, abs=0.03)
    assert r_precision(captions, captions).all()


def test_r_precision_against_all_others_is_recall_at_one_and_the_seed_decides_between_fewer() -> None:
    images, captions = unit(4, 60), unit(5, 60)
    every = r_precision(images, captions, others=59)
    assert every.tolist() == (retrieval_ranks(images, captions) == 1).tolist()
    few = r_precision(images, captions, others=3)
    assert few.tolist() == r_precision(images, captions, others=3).tolist()
    assert few.tolist() != r_precision(images, captions, others=3, seed=1).tolist()


def test_r_precision_refuses_too_few_captions() -> None:
    with pytest.raises(ValueError, match="99 other captions, there are 59"):
        r_precision(unit(6, 60), unit(7, 60))
