"""The paper's two listings, and views of drawings: what they draw, how often, and from where."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from t2i.data.augment import drawing_view, dvae_view, middle_offset, prior_view
from t2i.data.transforms import resize

View = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
DRAWS = 2000


def coordinates(height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] whose red is the row and whose green is the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)


def sides(view: np.ndarray) -> float:
    """How many original rows a view of :func:`coordinates` spans, a pixel's width included."""
    rows = view[:, 0, 0].astype(float)
    return (rows[-1] - rows[0]) * len(rows) / (len(rows) - 1)


def test_listing_1_resizes_the_short_side_to_9_8_up_to_3_2_of_the_size() -> None:
    image, random = coordinates(200, 200), np.random.default_rng(0)
    spans = np.array([sides(dvae_view(image, 32, random)) for _ in range(DRAWS)])
    drawn = 200 * 32 / spans  # the side that the square was resized to
    assert drawn.min() == pytest.approx(36, abs=0.6)
    assert drawn.max() == pytest.approx(48, abs=0.6)
    counts = np.bincount(drawn.round().astype(int))[36:49]
    assert counts.min() > 0.6 * DRAWS / 13


def test_listing_1_takes_squares_from_all_along_the_long_side_and_mirrors_half() -> None:
    image, random = coordinates(40, 240), np.random.default_rng(0)
    views = [dvae_view(image, 32, random) for _ in range(DRAWS)]
    mirrored = np.array([view[0, 0, 1] > view[0, -1, 1] for view in views])
    assert mirrored.mean() == pytest.approx(0.5, abs=0.04)
    left = np.array([view[0, :, 1].min() for view in views])
    assert left.min() < 5
    assert left.max() > 200
    assert np.histogram(left, bins=8, range=(0, 208))[0].min() > 0.08 * DRAWS


def test_listing_1_never_enlarges_what_is_large_enough() -> None:
    image, random = coordinates(40, 40), np.random.default_rng(0)
    assert all(sides(dvae_view(image, 32, random)) >= 31.9 for _ in range(200))  # t <= min(s, 48) = 40


def test_listing_2_stays_near_the_middle_and_mirrors_nothing() -> None:
    image, random = coordinates(64, 224), np.random.default_rng(0)
    views = [prior_view(image, 64, random) for _ in range(DRAWS)]
    assert all(view[0, 0, 1] < view[0, -1, 1] for view in views)
    left = np.array([view[0, 0, 1] for view in views])
    assert left.min() == 3 * 160 // 8
    assert left.max() == 5 * 160 // 8 - 1


def test_listing_2_resizes_to_the_size_up_to_9_8_of_it() -> None:
    image, random = coordinates(200, 200), np.random.default_rng(0)
    spans = np.array([sides(prior_view(image, 32, random)) for _ in range(DRAWS)])
    drawn = 200 * 32 / spans
    assert drawn.min() == pytest.approx(32, abs=0.6)
    assert drawn.max() == pytest.approx(36, abs=0.6)


def test_the_offset_of_listing_2_has_a_value_even_without_room() -> None:
    random = np.random.default_rng(0)
    assert {middle_offset(0, random) for _ in range(20)} == {0}
    assert {middle_offset(1, random) for _ in range(20)} == {0}
    assert {middle_offset(16, random) for _ in range(200)} == {6, 7, 8, 9}


def a_drawing() -> np.ndarray:
    """A black square of 40 px in the middle of a white picture of 64, its right half grey."""
    image = np.full((64, 64, 3), 255, np.uint8)
    image[12:52, 12:52] = 0
    image[12:52, 32:52] = 90
    return image


def test_a_drawing_is_made_smaller_by_up_to_an_eighth_and_moved_by_up_to_a_sixteenth() -> None:
    image, random = a_drawing(), np.random.default_rng(0)
    heights, tops = [], []
    for _ in range(DRAWS):
        dark = drawing_view(image, 64, random, mirror=False) < 200
        rows = np.flatnonzero(dark.any(axis=(1, 2)))
        heights.append(len(rows))
        tops.append((rows[0] + rows[-1]) / 2 - 31.5)
    assert min(heights) == pytest.approx(35, abs=1)
    assert max(heights) == 40
    assert np.max(np.abs(tops)) == pytest.approx(4, abs=0.5)
    assert np.mean(tops) == pytest.approx(0, abs=0.3)


def test_a_drawing_is_mirrored_half_of_the_time_if_at_all() -> None:
    random = np.random.default_rng(0)
    for mirror, share in ((False, 0.0), (True, 0.5)):
        views = [drawing_view(a_drawing(), 64, random, mirror=mirror)[32] for _ in range(DRAWS)]
        grey_first = [np.argmax(view[:, 0] == 90) < np.argmax(view[:, 0] == 0) for view in views]
        assert np.mean(grey_first) == pytest.approx(share, abs=0.04)


def test_the_ground_around_a_drawing_goes_on() -> None:
    image, random = np.full((64, 64, 3), (10, 200, 90), np.uint8), np.random.default_rng(0)
    assert all((drawing_view(image, 64, random, mirror=True) == image).all() for _ in range(100))


@pytest.mark.parametrize("view", [dvae_view, prior_view])
def test_small_images_are_enlarged_whole(view: View) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    enlarged = resize(image, 32)
    drawn = view(image, 32, np.random.default_rng(1))
    assert any(np.array_equal(drawn, expected) for expected in (enlarged, enlarged[:, ::-1]))


@pytest.mark.parametrize("view", [dvae_view, prior_view])
def test_the_same_generator_draws_the_same_view(view: View) -> None:
    image = coordinates(90, 70)
    one, again = (view(image, 32, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, again)
