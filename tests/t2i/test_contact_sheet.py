from __future__ import annotations

import numpy as np
import pytest

from t2i.contact_sheet import GAP, GRID_COLUMNS, MARGIN, SheetRow, contact_sheet


def row(caption: str, values: list[int]) -> SheetRow:
    images = np.stack([np.full((8, 8, 3), value, np.uint8) for value in values])
    return SheetRow.ranked(caption, images, np.linspace(0.5, 0.1, len(values)))


def test_candidates_stand_side_by_side_in_the_order_given() -> None:
    sheet = contact_sheet([row("a taco", [10, 120, 240])], tile=64)
    assert sheet.width == 2 * MARGIN + 3 * 64 + 2 * GAP
    pixels = np.asarray(sheet)
    for index, value in enumerate([10, 120, 240]):
        left = MARGIN + index * (64 + GAP)
        assert ((pixels[:, left : left + 64] == value).all(axis=(1, 2))).sum() == 64


def test_every_caption_has_its_row_and_long_ones_are_cut_after_three_lines() -> None:
    one = contact_sheet([row("a taco", [0, 0])])
    two = contact_sheet([row("a taco", [0, 0]), row("a taco", [0])])
    long = contact_sheet([row("word " * 500, [0, 0])])
    assert two.width == one.width
    assert one.height < long.height < two.height


def test_captions_of_one_image_each_fill_a_grid_row_by_row() -> None:
    values = range(10, 10 + 10 * (GRID_COLUMNS + 2), 10)
    sheet = np.asarray(contact_sheet([row("a taco, flat, seen from above", [value]) for value in values], tile=64))
    assert sheet.shape[1] == 2 * MARGIN + GRID_COLUMNS * (64 + GAP) - GAP
    corners = [np.argwhere((sheet == value).all(axis=2)).min(axis=0) for value in values]
    lefts = [MARGIN + column * (64 + GAP) for column in range(GRID_COLUMNS)]
    assert [left for _, left in corners] == [*lefts, *lefts[:2]]
    assert {top for top, _ in corners[:GRID_COLUMNS]} == {MARGIN}
    assert corners[-1][0] > MARGIN + 64 + 3 * 14  # below three lines of a caption


def test_refuses_an_empty_sheet() -> None:
    with pytest.raises(ValueError, match="at least one caption"):
        contact_sheet([])
