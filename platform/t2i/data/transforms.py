"""Encoded image bytes -> a square uint8 array."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 16_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


class ImageError(ValueError):
    """An image that cannot be used; the message is the reason."""


def decode_image(data: bytes, size: int) -> np.ndarray:
    """Decode, put white behind transparency, crop the centre square and resize it to uint8 [size, size, 3].

    Larger images shrink by area averaging (PIL ``BOX``, as the paper's AREA), smaller ones grow bicubically.

    Raises:
        ImageError: no bytes, an unknown format, over 16 megapixels (by its header), or damaged.
    """
    if not data:
        raise ImageError("it has no bytes: the file is missing or empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        check_size(image)
        return square(on_white(ImageOps.exif_transpose(image)), size)
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


def square(image: Image.Image, size: int) -> np.ndarray:
    """The centre square of an RGB image as uint8 [size, size, 3]."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    method = Image.Resampling.BOX if side > size else Image.Resampling.BICUBIC
    return np.asarray(image.resize((size, size), method, box=(left, top, left + side, top + side)))
