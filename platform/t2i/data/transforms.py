"""Cut squares out of images and resize them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image

from t2i.image_files import decode_rgb


def decode_image(data: bytes, size: int) -> np.ndarray:
    """Return the centre square of an encoded image, resized to uint8 [size, size, 3].

    Raises:
        ImageError: see :func:`t2i.image_files.decode_rgb`.
    """
    return centre_square(decode_rgb(data), size)


def centre_square(image: np.ndarray, size: int) -> np.ndarray:
    """Return the centre square of an image, resized: uint8 [H, W, 3] -> uint8 [size, size, 3]."""
    side = min(image.shape[:2])
    top, left = ((extent - side) // 2 for extent in image.shape[:2])
    return resize(image[top : top + side, left : left + side], size)


def resize(image: np.ndarray, side: int) -> np.ndarray:
    """Resize an image to a square, uint8 [H, W, 3] -> uint8 [side, side, 3], whatever its aspect ratio.

    It shrinks by the mean over each new pixel's area (TensorFlow's AREA, as in the paper's listings). It grows
    bicubically, which the paper has no case of: by area, a new pixel would only repeat an old one.
    """
    height, width = image.shape[:2]
    if side > min(height, width):
        return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
    if height == width == side:
        return image
    rows = (area_weights(height, side) @ image.reshape(height, -1)).reshape(side, width, 3)  # vertically
    resized: np.ndarray = np.einsum("ij,kjc->kic", area_weights(width, side), rows, optimize=True)  # [side, side, 3]
    return resized.clip(0, 255).round().astype(np.uint8)


CROPS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"centre": centre_square, "squash": resize}
"""How an image becomes a square: its centre (shorter side to size, centre crop), or all of it, out of proportion."""


@lru_cache(maxsize=256)
def area_weights(old: int, new: int) -> np.ndarray:
    """Return the share of each old pixel in each new pixel along a side, float32 [new, old], for new <= old.

    Rows sum to 1: a new pixel is the weighted mean of the old ones that it covers, border pixels by the fraction
    that is covered.
    """
    # Example old = 3, new = 2. In units of old pixels, new pixel 0 covers [0, 1.5] and new pixel 1 covers [1.5, 3]:
    #
    #   old pixels   |  0  |  1  |  2  |
    #   new pixels   |    0   |   1    |
    #   edges        0       1.5       3
    #
    # covered[e, j] is how much of old pixel j lies left of edge e:  0: [0 0 0]   1.5: [1 .5 0]   3: [1 1 1]
    # Its differences are what a new pixel covers, [1 .5 0] and [0 .5 1]; times new / old they sum to 1.
    edges = np.arange(new + 1)[:, None] * (old / new)
    covered = (edges - np.arange(old)).clip(0, 1)  # [new + 1, old]
    shares: np.ndarray = (covered[1:] - covered[:-1]) * (new / old)
    return shares.astype(np.float32)
