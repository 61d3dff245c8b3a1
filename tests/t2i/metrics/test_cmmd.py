from __future__ import annotations

import numpy as np
import pytest

from t2i.metrics import blocks
from t2i.metrics.cmmd import cmmd


def unit(random: np.random.Generator, n: int, shift: float) -> np.ndarray:
    features = random.normal(shift, 1, (n, 8))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def test_is_the_definition_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    a, b = unit(random, 9, 0), unit(random, 7, 0.5)

    def mean(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean([np.exp(-((p.astype(float) - q) ** 2).sum() / 200) for p in x for q in y]))

    expected = 1000 * (mean(a, a) + mean(b, b) - 2 * mean(a, b))
    assert cmmd(a, b).value == pytest.approx(expected, rel=1e-6)
    monkeypatch.setattr(blocks.row_blocks, "__defaults__", (4,))
    assert cmmd(a, b).value == pytest.approx(expected, rel=1e-6)


def test_a_set_is_at_no_distance_from_itself() -> None:
    a = unit(np.random.default_rng(1), 30, 0)
    assert cmmd(a, a).value == pytest.approx(0, abs=1e-9)


def test_the_standard_error_is_the_spread_of_other_draws() -> None:
    random = np.random.default_rng(2)
    found = [cmmd(unit(random, 100, 0.6), unit(random, 80, 0)) for _ in range(200)]
    assert np.mean([each.standard_error for each in found]) == pytest.approx(
        np.std([each.value for each in found]), rel=0.2
    )
