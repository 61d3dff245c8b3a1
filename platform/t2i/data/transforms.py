"""Decode image files and resize them to squares."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 16_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


class ImageError(ValueError):
    """An image that cannot be used; the message is the reason, beginning with "it"."""


def decode_image(data: bytes, size: int) -> np.ndarray:
    """Return the centre square of an encoded image, resized to uint8 [size, size, 3].

    Raises:
        ImageError: see :func:`decode_rgb`.
    """
    return centre_square(decode_rgb(data), size)


def decode_rgb(data: bytes) -> np.ndarray:
    """Return the pixels of an encoded image, uint8 [H, W, 3], turned upright, on white where it is transparent.

    Raises:
        ImageError: there are no bytes, or the image is damaged, of an unknown format or over 16 megapixels.
    """
    if not data:
        raise ImageError("it has no bytes: the file is missing or empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        check_size(image)
        return np.asarray(on_white(ImageOps.exif_transpose(image)))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"it is no image of a known format ({', '.join(FORMATS)})") from error
    except Exception as error:  # PIL raises nearly anything for damaged files, even struct.error and IndexError
        raise ImageError(
            f"it cannot be decoded: {str(error).splitlines()[0] if str(error) else repr(error)}"
        ) from error


def check_size(image: Image.Image) -> None:
    """Check the size in an image's header before it is decoded.

    Raises:
        ImageError: it has over 16 megapixels, which would take too much memory to decode.
    """
    if image.width * image.height > MAX_PIXELS:
        megapixels = image.width * image.height / 1e6
        raise ImageError(f"it has {megapixels:.0f} megapixels: the most is {MAX_PIXELS / 1e6:.0f}")


def on_white(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, on a white background; of 16-bit greys the upper byte is kept."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    drawing = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), drawing).convert("RGB")


def centre_square(image: np.ndarray, size: int) -> np.ndarray:
    """Return the centre square of an image, resized: uint8 [H, W, 3] -> uint8 [size, size, 3]."""
    side = min(image.shape[:2])
    top, left = ((extent - side) // 2 for extent in image.shape[:2])
    return resize(image[top : top + side, left : left + side], size)


def resize(square: np.ndarray, side: int) -> np.ndarray:
    """Resize a square image, uint8 [old, old, 3] -> uint8 [side, side, 3].

    It shrinks by the mean over each new pixel's area (TensorFlow's AREA, as in the paper's listings). It grows
    bicubically, which the paper has no case of: by area, a new pixel would only repeat an old one.
    """
    if side > len(square):
        return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC))
    if side == len(square):
        return square
    weights = area_weights(len(square), side)
    rows = (weights @ square.reshape(len(square), -1)).reshape(side, -1, 3)  # vertically: [side, old, 3]
    resized: np.ndarray = np.einsum("ij,kjc->kic", weights, rows, optimize=True)  # horizontally: [side, side, 3]
    return resized.clip(0, 255).round().astype(np.uint8)


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
