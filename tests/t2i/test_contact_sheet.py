from __future__ import annotations

import numpy as np
import pytest

from t2i.contact_sheet import GAP, MARGIN, SheetRow, contact_sheet


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


def test_refuses_an_empty_sheet() -> None:
    with pytest.raises(ValueError, match="at least one caption"):
        contact_sheet([])
