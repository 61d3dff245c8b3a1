from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from t2i.metrics.clip_score import clip_score, cosine, expected_best_of


def test_negative_cosines_are_clipped_sample_by_sample() -> None:
    images = np.array([[1.0, 0.0], [1.0, 0.0]])
    captions = np.array([[0.6, 0.8], [-1.0, 0.0]])
    np.testing.assert_allclose(cosine(images, captions), [0.6, -1.0])
    np.testing.assert_allclose(clip_score(images, captions), [1.5, 0.0])


def test_expected_best_of_is_the_mean_over_all_subsets() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 5))
    by_enumeration = [
        np.mean([[max(row[list(subset)]) for subset in combinations(range(5), k)] for row in scores])
        for k in range(1, 6)
    ]
    np.testing.assert_allclose(expected_best_of(scores), by_enumeration, rtol=1e-12)


def test_expected_best_of_starts_at_the_mean_and_ends_at_the_best_of_all_512() -> None:
    scores = np.random.default_rng(1).normal(size=(2, 512))
    curve = expected_best_of(scores)
    assert curve[0] == pytest.approx(scores.mean())
    assert curve[-1] == pytest.approx(scores.max(axis=1).mean())
    assert (np.diff(curve) > 0).all()
