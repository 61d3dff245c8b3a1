from __future__ import annotations

import numpy as np
import pytest

from t2i.metrics import precision_recall as module
from t2i.metrics.precision_recall import precision_recall

LINE = np.arange(10.0)[:, None]


def test_a_point_counts_where_it_is_within_the_third_neighbours_distance() -> None:
    generated = np.array([[4.5], [9.5], [13.5], [-2.5], [30.0]])
    # Radii on the line: 3 at the ends (their third neighbour), 2 inside; so up to 12 is inside, 13.5 and 30 are not.
    result = precision_recall(LINE, generated)
    assert result.precision == pytest.approx(3 / 5)


def test_missing_modes_cost_recall_and_not_precision() -> None:
    two_modes = np.concatenate([LINE, LINE + 1000])
    result = precision_recall(two_modes, LINE + 0.25)
    assert result.precision == 1.0
    assert result.recall == 0.5


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = np.random.default_rng(0).normal(size=(2, 50, 4))
    whole = precision_recall(real, generated)
    monkeypatch.setattr(module, "BLOCK", 7)
    assert precision_recall(real, generated) == whole


def test_refuses_sets_without_neighbours() -> None:
    with pytest.raises(ValueError, match="more than 3 images"):
        precision_recall(LINE[:3], LINE)
