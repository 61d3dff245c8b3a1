from __future__ import annotations

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from t2i.data.transforms import ImageError, area_weights, decode_image, resize


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def random_pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


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


def test_smaller_images_grow_smoothly() -> None:
    ramp = np.repeat(np.arange(0, 160, 20, dtype=np.uint8)[None, :, None], 8, axis=0).repeat(3, axis=2)
    grown = decode_image(encode(Image.fromarray(ramp)), 32).astype(int)
    assert grown.shape == (32, 32, 3)
    assert np.abs(np.diff(grown[16, :, 0])).max() < 20


def test_transparency_becomes_white() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    pixels[1, 1] = (0, 0, 0, 51)
    decoded = decode_image(encode(Image.fromarray(pixels)), 4)
    assert decoded[0, 0].tolist() == [10, 20, 30]
    assert decoded[1, 1].tolist() == [204, 204, 204]
    assert (decoded[2:] == 255).all()


def test_a_palette_with_a_transparent_entry_becomes_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([9, 9, 9, 200, 0, 0])
    assert (decode_image(encode(image, "GIF", transparency=0), 4) == 255).all()


def test_sixteen_bit_greys_keep_their_brightness() -> None:
    image = Image.fromarray(np.full((4, 4), 0x8012, np.uint16))
    assert (decode_image(encode(image), 4) == 0x80).all()


def test_cmyk_is_converted() -> None:
    assert decode_image(encode(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "JPEG"), 4).min() >= 250


def test_the_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    pixels = random_pixels(8, 8)
    assert np.array_equal(decode_image(encode(Image.fromarray(pixels), exif=exif), 8), np.rot90(pixels, -1))


def test_too_many_pixels_are_refused_by_the_header_alone() -> None:
    small = encode(Image.new("RGB", (8, 8)), "BMP")
    lying = small[:18] + (5000).to_bytes(4, "little") + (4000).to_bytes(4, "little") + small[26:]
    with pytest.raises(ImageError, match="it has 20 megapixels: the most is 16"):
        decode_image(lying, 8)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it has no bytes"),
        (b"no image at all", "it is no image of a known format"),
        (encode(Image.fromarray(random_pixels(32, 32)))[:-600], "it cannot be decoded: .*truncated"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no image of a known format"),
    ],
    ids=["empty", "text", "cut short", "postscript"],
)
def test_damaged_images_give_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_image(data, 8)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]), st.data())
def test_no_damage_raises_anything_else(file_format: str, data: st.DataObject) -> None:
    damaged = bytearray(encode(Image.fromarray(random_pixels(12, 12)), file_format))
    for _ in range(3):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ImageError):
        assert decode_image(bytes(damaged), 8).shape == (8, 8, 3)
