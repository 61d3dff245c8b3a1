from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from t2i.curate.hashing import colour_grid, perceptual_hash, pixel_digest, thumbnail


def picture(seed: int, size: tuple[int, int] = (96, 80)) -> np.ndarray:
    """A smooth random picture, uint8 [H, W, 3]: hashes see low frequencies alone, as they do of photographs."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC))


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


COPIES = {
    "jpeg": lambda image: as_jpeg(image, 60),
    "half": lambda image: np.asarray(Image.fromarray(image).reduce(2)),
    "double": lambda image: np.asarray(Image.fromarray(image).resize((192, 160))),
    "blurred": lambda image: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1))),
}


def differing(one: np.ndarray, other: np.ndarray) -> int:
    return (perceptual_hash(one) ^ perceptual_hash(other)).bit_count()


@pytest.mark.parametrize("copy", COPIES)
def test_copies_differ_in_few_bits_and_colours(copy: str) -> None:
    for seed in range(20):
        image = picture(seed)
        other = COPIES[copy](image)
        assert differing(image, other) <= 4
        assert np.abs(colour_grid(image).astype(int) - colour_grid(other)).max() <= 24
        assert pixel_digest(image) != pixel_digest(other)


def test_other_pictures_differ_in_many_bits() -> None:
    hashes = [perceptual_hash(picture(seed)) for seed in range(40)]
    assert min((a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i]) > 8


def test_a_drawings_hash_does_not_hang_on_noise() -> None:
    """Of a symmetric drawing half of the frequencies are zero, and noise of one level must not decide their bits."""
    disc = np.full((64, 64, 3), 255, np.uint8)
    y, x = np.mgrid[-31.5:32:1, -31.5:32:1]
    disc[x**2 + y**2 < 500] = (220, 40, 40)
    noisy = np.clip(disc + np.random.default_rng(0).integers(-1, 2, disc.shape), 0, 255).astype(np.uint8)
    assert differing(disc, noisy) == 0


def test_colours_tell_what_the_hash_cannot() -> None:
    red, blue = (np.full((16, 16, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    assert differing(red, blue) == 0
    assert np.abs(colour_grid(red).astype(int) - colour_grid(blue)).max() == 255
    assert colour_grid(red).shape == (192,)


def test_digests_know_the_shape() -> None:
    flat = np.zeros((4, 8, 3), np.uint8)
    assert pixel_digest(flat) == pixel_digest(flat.copy())
    assert pixel_digest(flat) != pixel_digest(flat.reshape(8, 4, 3))


def test_thumbnails_are_small() -> None:
    small = Image.open(io.BytesIO(thumbnail(picture(0, (640, 320)))))
    assert (small.format, small.size) == ("JPEG", (64, 32))
