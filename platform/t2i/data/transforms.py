"""Encoded image bytes -> a square uint8 array."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 16_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


class ImageError(ValueError):
    """An image that cannot be used; the message is the reason."""


def decode_image(data: bytes, size: int) -> np.ndarray:
    """Decode, put white behind transparency, crop the centre square and resize it to uint8 [size, size, 3].

    Raises:
        ImageError: see :func:`decode_rgb`.
    """
    return centre_square(decode_rgb(data), size)


def decode_rgb(data: bytes) -> np.ndarray:
    """Decode, turn upright and put white behind transparency: uint8 [H, W, 3].

    Raises:
        ImageError: no bytes, an unknown format, over 16 megapixels (by its header), or damaged.
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
    except Exception as error:  # damaged files make PIL raise nearly anything, struct.error and IndexError included
        raise ImageError(
            f"it cannot be decoded: {str(error).splitlines()[0] if str(error) else repr(error)}"
        ) from error


def check_size(image: Image.Image) -> None:
    """Refuse what would take too much memory to decode."""
    if image.width * image.height > MAX_PIXELS:
        megapixels = image.width * image.height / 1e6
        raise ImageError(f"it has {megapixels:.0f} megapixels: the most is {MAX_PIXELS / 1e6:.0f}")


def on_white(image: Image.Image) -> Image.Image:
    """Any mode -> RGB; what is transparent becomes white, 16-bit greys keep their upper byte."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    drawing = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), drawing).convert("RGB")


def centre_square(image: np.ndarray, size: int) -> np.ndarray:
    """The centre square of uint8 [H, W, 3] as uint8 [size, size, 3]."""
    side = min(image.shape[:2])
    top, left = ((extent - side) // 2 for extent in image.shape[:2])
    return resize(image[top : top + side, left : left + side], size)


def resize(square: np.ndarray, side: int) -> np.ndarray:
    """uint8 [S, S, 3] -> uint8 [side, side, 3]: the mean over each new pixel's area, as the paper's AREA.

    The paper has no images to enlarge; ours grow bicubically, since areas would only repeat their pixels.
    """
    if side > len(square):
        return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC))
    if side == len(square):
        return square
    weights = area_weights(len(square), side)
    rows = (weights @ square.reshape(len(square), -1)).reshape(side, -1, 3)
    resized = np.einsum("ij,kjc->kic", weights, rows, optimize=True)
    return resized.clip(0, 255).round().astype(np.uint8)


@lru_cache(maxsize=256)
def area_weights(old: int, new: int) -> np.ndarray:
    """float32 [new, old]: the share that each of ``old`` pixels has in each of ``new`` <= old ones along a side."""
    edges = np.arange(new + 1)[:, None] * (old / new)
    covered = (edges - np.arange(old)).clip(0, 1)  # of each old pixel, up to each edge
    return ((covered[1:] - covered[:-1]) * (new / old)).astype(np.float32)
