from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from t2i.metrics import blocks
from t2i.metrics.distances import Points, neighbour_radii, squared_distances, within
from t2i.metrics.prdc import PRDC, prdc

LINE = np.arange(10.0)[:, None]


def slowly(real: np.ndarray, generated: np.ndarray, k: int) -> dict[str, float]:
    """The definitions, from whole matrices of scipy's distances."""
    real_radii, drawn_radii = (np.sort(cdist(side, side), axis=1)[:, k] for side in (real, generated))
    apart = cdist(generated, real)
    return {
        "precision": (apart <= real_radii).any(axis=1).mean(),
        "recall": (apart <= drawn_radii[:, None]).any(axis=0).mean(),
        "density": (apart <= real_radii).sum(axis=1).mean() / k,
        "coverage": (apart <= real_radii).any(axis=0).mean(),
    }


def test_a_point_counts_where_it_is_within_the_third_neighbours_distance() -> None:
    generated = np.array([[4.5], [9.5], [13.5], [-2.5], [30.0], [30.0]])
    # Radii on the line: 3 at the ends (their third neighbour), 2 inside; so up to 12 is inside, 13.5 and 30 are not.
    assert prdc(LINE, generated).realistic.tolist() == [True, True, False, True, False, False]


def test_missing_modes_cost_recall_and_coverage_and_not_precision() -> None:
    two_modes = np.concatenate([LINE, LINE + 1000])
    result = prdc(two_modes, LINE + 0.25).means()
    assert (result["precision"], result["recall"], result["coverage"]) == (1.0, 0.5, 0.5)


def test_are_the_definitions_also_where_images_are_copies() -> None:
    random = np.random.default_rng(0)
    real = random.normal(100, 1, (300, 12)).astype(np.float32)
    real[40:50] = real[7]  # radii of 0
    generated = np.concatenate([real[:60], random.normal(100, 1.1, (200, 12))]).astype(np.float32)
    result = prdc(real, generated, neighbours=4, density_neighbours=4)
    assert result.means() == slowly(real.astype(np.float64), generated.astype(np.float64), 4)


def test_ties_with_the_radius_are_inside_although_products_round() -> None:
    random = np.random.default_rng(1)
    real = random.normal(1000, 1, (50, 30))
    points, copies = Points.of(real), Points.of(real[::-1])
    (radii,) = neighbour_radii(points, [1])
    distances = squared_distances(copies, points)
    expected = cdist(real[::-1], real) <= np.sort(cdist(real, real), axis=1)[:, 1]
    assert not np.array_equal(distances <= radii, expected)  # what the products alone would say
    assert np.array_equal(within(distances, copies, points, radii), expected)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = np.random.default_rng(0).normal(size=(2, 50, 4))
    whole = prdc(real, generated)
    monkeypatch.setattr(blocks.row_blocks, "__defaults__", (7,))
    in_blocks = prdc(real, generated)
    for name in ("realistic", "recalled", "density", "covered"):
        assert np.array_equal(getattr(in_blocks, name), getattr(whole, name))


def test_means_are_over_images() -> None:
    result = PRDC(np.array([True, False]), np.array([True]), np.array([2.0, 1.0]), np.array([False]), 3, 5)
    assert result.means() == {"precision": 0.5, "recall": 1.0, "density": 1.5, "coverage": 0.0}


def test_refuses_sets_without_neighbours() -> None:
    with pytest.raises(ValueError, match="more than 5 images"):
        prdc(LINE[:5], LINE)
