from __future__ import annotations

import numpy as np
import pytest

from t2i.metrics import blocks
from t2i.metrics.inception_score import inception_score


def test_certain_and_evenly_spread_classes_score_their_number() -> None:
    logits = np.tile(np.eye(10) * 200.0, (12, 1))
    assert inception_score(logits, splits=1).mean == pytest.approx(10.0, rel=1e-12)


def test_the_same_answer_for_every_image_scores_one() -> None:
    logits = np.tile(np.random.default_rng(0).normal(size=10), (20, 1))
    score = inception_score(logits, splits=4)
    assert score.mean == pytest.approx(1.0, rel=1e-12)
    assert score.std == pytest.approx(0.0, abs=1e-12)


def test_is_the_definition_on_soft_predictions() -> None:
    logits = np.random.default_rng(1).normal(0, 2, size=(50, 6))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.exp(np.mean([(row * np.log(row / p.mean(0))).sum() for row in p]))
    assert inception_score(logits, splits=1).mean == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("deviation", [24, 200])
def test_extreme_logits_in_float32_stay_finite(deviation: float) -> None:
    logits = np.random.default_rng(2).normal(0, deviation, size=(40, 1008)).astype(np.float32)
    assert np.isfinite(inception_score(logits, splits=10).mean)


def test_splits_are_in_order_without_a_seed_and_shuffled_with_one() -> None:
    logits = np.repeat(np.eye(4) * 100.0, 5, axis=0)  # five images of each of four classes
    assert inception_score(logits, splits=4, seed=None).mean == pytest.approx(1.0)
    assert inception_score(logits, splits=4).mean > 1.5


def test_blocks_do_not_change_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(3).normal(0, 3, size=(50, 6))
    whole = inception_score(logits, splits=2)
    monkeypatch.setattr(blocks.row_blocks, "__defaults__", (7,))
    assert inception_score(logits, splits=2).mean == pytest.approx(whole.mean, rel=1e-13)


def test_refuses_more_splits_than_images() -> None:
    with pytest.raises(ValueError, match="use fewer splits"):
        inception_score(np.zeros((3, 5)), splits=10)
