"""Which rows a mask keeps."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from t2i.sampling import RequestError
from t2i.serve.http.masks import kept_rows
from tests.images import encode, half_transparent

OPAQUE = half_transparent(64, 64)


@pytest.mark.parametrize("rows", [8, 16, 32])
def test_the_rows_above_the_transparent_part_are_kept(rows: int) -> None:
    for kept in range(1, rows):
        mask = half_transparent(64, kept * 64 // rows)
        assert kept_rows(OPAQUE, mask, rows) == kept_rows(mask, None, rows) == kept


def test_a_mask_may_be_grey_with_alpha_or_have_a_palette() -> None:
    alpha = Image.fromarray(np.repeat(np.array([255, 0], np.uint8), 32)[:, None].repeat(64, 1))
    grey = Image.merge("LA", (Image.new("L", (64, 64)), alpha))
    palette = Image.fromarray((np.asarray(alpha) == 0).astype(np.uint8)).convert("P")
    assert kept_rows(OPAQUE, encode(grey), 8) == 4
    assert kept_rows(OPAQUE, encode(palette, transparency=1), 8) == 4


def test_other_parts_than_the_bottom_are_refused() -> None:
    hole = np.full((64, 64, 4), 255, np.uint8)
    hole[40:50, 20:30, 3] = 0
    top, half = np.full_like(hole, 255), np.full_like(hole, 255)
    top[:32, :, 3], half[32:, :, 3] = 0, 128
    for pixels, field in ((hole, "bottom rows"), (top, "bottom rows"), (half, "keeps all|bottom rows")):
        with pytest.raises(RequestError, match=field):
            kept_rows(OPAQUE, encode(Image.fromarray(pixels)), 8)


def test_an_image_that_is_not_square_is_refused() -> None:
    with pytest.raises(RequestError, match="image is 64x32: send a square one"):
        kept_rows(encode(Image.new("RGB", (64, 32))), None, 8)
