from __future__ import annotations

import torch

from t2i.train.tasks.pictures import evenly_spaced, image_grid


def test_a_grid_puts_image_i_at_row_and_column() -> None:
    images = torch.arange(6).div(6)[:, None, None, None].expand(6, 3, 2, 2)
    picture = image_grid(images, columns=3)
    assert picture.shape == (3, 2 * 4, 3 * 4)
    assert torch.equal(picture[0, 1::4, 1::4], torch.arange(6).div(6).reshape(2, 3))
    assert picture[0, 0].eq(1).all()


def test_rows_are_chosen_evenly_spaced() -> None:
    assert evenly_spaced(100, 4) == [0, 25, 50, 75]
    assert evenly_spaced(3, 8) == [0, 1, 2]
