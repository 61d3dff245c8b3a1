from __future__ import annotations

import numpy as np
from PIL import Image

from t2i.data.transforms import CROPS, area_weights, decode_image, resize
from tests.images import encode, random_pixels


def test_an_image_of_the_right_size_is_untouched() -> None:
    pixels = random_pixels(16, 16)
    assert np.array_equal(decode_image(encode(Image.fromarray(pixels)), 16), pixels)


def test_the_centre_square_is_kept() -> None:
    pixels = random_pixels(16, 40)
    assert np.array_equal(decode_image(encode(Image.fromarray(pixels)), 16), pixels[:, 12:28])


def test_larger_images_shrink_by_the_mean_of_each_cell() -> None:
    pixels = random_pixels(32, 32)
    means = pixels.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3))
    assert np.abs(decode_image(encode(Image.fromarray(pixels)), 8) - means).max() <= 1


def test_areas_count_by_their_share() -> None:
    expected = np.array([[2, 1, 0], [0, 1, 2]]) / 3
    assert np.allclose(area_weights(3, 2), expected)
    assert np.allclose(area_weights(97, 32).sum(axis=1), 1)
    step = np.zeros((3, 3, 3), np.uint8)
    step[:, 1] = 90
    assert (resize(step, 2) == 30).all()


def test_a_squashed_image_keeps_its_borders() -> None:
    pixels = random_pixels(16, 48)
    means = pixels.reshape(16, 16, 3, 3).mean(axis=2)
    assert np.abs(CROPS["squash"](pixels, 16) - means).max() <= 1
    assert np.array_equal(CROPS["centre"](pixels, 16), pixels[:, 16:32])
    assert CROPS["squash"](pixels, 40).shape == (40, 40, 3)


def test_smaller_images_grow_smoothly() -> None:
    ramp = np.repeat(np.arange(0, 160, 20, dtype=np.uint8)[None, :, None], 8, axis=0).repeat(3, axis=2)
    grown = decode_image(encode(Image.fromarray(ramp)), 32).astype(int)
    assert grown.shape == (32, 32, 3)
    assert np.abs(np.diff(grown[16, :, 0])).max() < 20
