from __future__ import annotations

import numpy as np
import pytest

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


def test_extreme_logits_in_float32_stay_finite() -> None:
    logits = np.random.default_rng(2).normal(0, 200, size=(40, 1008)).astype(np.float32)
    assert np.isfinite(inception_score(logits, splits=10).mean)


def test_refuses_more_splits_than_images() -> None:
    with pytest.raises(ValueError, match="use fewer splits"):
        inception_score(np.zeros((3, 5)), splits=10)
