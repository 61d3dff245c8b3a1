from __future__ import annotations

import json
import math
from collections.abc import Iterable

import numpy as np
import pytest

from t2i.train.optim.plateau import Plateau, PlateauConfig


def halvings(plateau: Plateau, losses: Iterable[float]) -> list[int]:
    return [step for step, loss in enumerate(losses) if plateau.observe(loss)]


def staircase(levels: int, steps: int, noise: float = 0.0) -> np.ndarray:
    """A loss that falls to each of its levels and stays there, as if every halving helped once."""
    falling = [1 / (level + 1) + np.exp(-np.arange(steps) / (steps / 50)) for level in range(levels)]
    return np.concatenate(falling) + noise * np.random.default_rng(0).normal(size=levels * steps)


def test_a_falling_loss_is_no_plateau() -> None:
    plateau = Plateau(PlateauConfig(patience=20, smoothing=0.9))
    assert halvings(plateau, 5 * np.exp(-np.arange(1000) / 500)) == []
    assert plateau.factor == 1


def test_every_level_of_a_noisy_loss_is_found_once_per_patience() -> None:
    plateau = Plateau(PlateauConfig(patience=400, smoothing=0.98, threshold=0.02))
    found = halvings(plateau, staircase(levels=3, steps=900, noise=0.1))
    assert [step // 900 for step in found] == [0, 1, 2]
    assert plateau.factor == 0.5**3


def test_without_smoothing_patience_is_exact() -> None:
    plateau = Plateau(PlateauConfig(patience=3, smoothing=0.0, threshold=0.0))
    assert halvings(plateau, [5, 4, 4, 4, 4, 4, 4, 4, 3, 3, 3, 3]) == [4, 7, 11]


def test_a_gain_below_the_threshold_is_none() -> None:
    losses = [1 - 0.001 * step for step in range(12)]
    assert halvings(Plateau(PlateauConfig(patience=5, smoothing=0.0, threshold=0.1)), losses) == [5, 10]
    assert halvings(Plateau(PlateauConfig(patience=5, smoothing=0.0, threshold=0.0001)), losses) == []


def test_the_paper_halves_five_times_and_no_more() -> None:
    plateau = Plateau(PlateauConfig(patience=10))
    assert len(halvings(plateau, [1.0] * 200)) == 5
    assert plateau.factor == 1 / 32


def test_the_first_losses_weigh_fully() -> None:
    """Without the bias of an average that begins at 0, which would look like a rising loss."""
    plateau = Plateau(PlateauConfig(smoothing=0.99))
    plateau.observe(3.0)
    assert plateau.average == pytest.approx(3.0)


def test_a_loss_without_a_value_is_passed_over() -> None:
    plateau = Plateau(PlateauConfig(patience=1))
    plateau.observe(1.0)
    before = plateau.state_dict()
    assert not any(plateau.observe(loss) for loss in (math.nan, math.inf))
    assert plateau.state_dict() == before


@pytest.mark.parametrize("cut", [0, 1, 700])
def test_a_resumed_machine_decides_the_same(cut: int) -> None:
    losses = staircase(levels=3, steps=600, noise=0.1)
    uninterrupted, first, second = (Plateau(PlateauConfig(patience=200, threshold=0.02)) for _ in range(3))
    expected = halvings(uninterrupted, losses)
    before = halvings(first, losses[:cut])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + [cut + step for step in halvings(second, losses[cut:])] == expected
    assert second.state_dict() == uninterrupted.state_dict()


def test_a_negative_loss_has_plateaus_too() -> None:
    plateau = Plateau(PlateauConfig(patience=3, smoothing=0.0, threshold=0.1))
    assert halvings(plateau, [-1.0, -1.2, -1.4, -1.41, -1.41, -1.41]) == [5]
