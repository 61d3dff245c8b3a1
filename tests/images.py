"""Image files and pixels for tests."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    """The image as a file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def random_pixels(height: int, width: int) -> np.ndarray:
    """Noise, uint8 [height, width, 3], the same at each call."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def half_transparent(side: int, clear_from: int) -> bytes:
    """A square PNG, dark above and light below, that is transparent from the pixel row ``clear_from`` on."""
    pixels = np.full((side, side, 4), 255, np.uint8)
    pixels[: side // 2, :, 0] = 30
    pixels[clear_from:, :, 3] = 0
    return encode(Image.fromarray(pixels))
