from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pictograms.iconify import IconSet
from pictograms.picture import MARGIN, SIZE, draw, picture, webp

WIDE = {"icons": {"bar": {"body": '<path fill="currentColor" d="M4 10h16v4H4z"/>'}}, "width": 24, "height": 24}


def drawn(colour: str | None = None) -> np.ndarray:
    return np.asarray(picture(draw(IconSet(WIDE).svg("bar", colour))))


def test_a_drawing_fills_the_width_within_the_margin_and_stands_in_the_middle_of_white() -> None:
    ink = drawn().min(axis=2) < 128
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    assert (columns.min(), columns.max()) == (MARGIN, SIZE - MARGIN - 1)
    assert abs(rows.min() + rows.max() - (SIZE - 1)) <= 1  # an odd height
    assert (drawn()[0] == 255).all()


def test_what_has_no_colour_is_drawn_in_the_one_that_is_given() -> None:
    assert drawn("#ff0000")[SIZE // 2, SIZE // 2].tolist() == [255, 0, 0]
    assert drawn()[SIZE // 2, SIZE // 2].tolist() == [0, 0, 0]


@pytest.mark.parametrize("effort", [0, 4, 6])
def test_webp_keeps_every_pixel(effort: int) -> None:
    image = Image.fromarray(drawn("#7b3fbf"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(webp(image, effort))).convert("RGB")), np.asarray(image))


def test_nothing_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        picture(Image.new("RGBA", (9, 9)))


def test_what_an_animation_fades_in_is_drawn() -> None:
    faded = '<g opacity="0"><path d="M2 2h20v20H2z"/><animate attributeName="opacity" values="0;1"/></g>'
    icons = IconSet({"icons": {"rain": {"body": faded}}, "width": 24, "height": 24})
    assert (np.asarray(picture(draw(icons.svg("rain"))))[32, 32] == 0).all()
