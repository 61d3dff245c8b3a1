"""Decode image files of any format and mode: the one way for training, jobs and service."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.ExifTags import Base

MEGAPIXELS = 16
"""The largest image that is decoded."""
MAX_PIXELS = MEGAPIXELS * 1_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow raises at twice as many, also for images inside icons, before it decodes
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # check_size() refuses what it warns of

NOT_DECODED = {"EPS", "IPTC", "MPEG"} | {"FITS", "IMT", "MCIDAS", "SPIDER", "XVTHUMB"}
"""Formats that Pillow opens and we do not.

EPS runs Ghostscript, and IPTC may hold an EPS; MPEG is only recognised. The others are those of instruments."""

COMMON_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "JPEG2000": "jp2"}
"""The usual suffixes of formats that are named otherwise."""

BITS_PER_SAMPLE = 258
"""The TIFF tag with the bits of a channel."""

TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by its EXIF orientation; 1 and any other need nothing."""

TRANSPARENT_SCALE = {"1": 255, "L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}
"""By a PNG's raw mode, what its transparent colour is multiplied with to have 8 bits, as its decoded pixels have."""


class ImageError(ValueError):
    """An image that cannot be used; the message is the reason, beginning with "it"."""


@cache
def formats() -> tuple[str, ...]:
    """Return the names of the formats that the installed Pillow decodes by itself, the common ones first."""
    Image.preinit()
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_DECODED and not _is_stub(name))


def _is_stub(name: str) -> bool:
    """Return whether Pillow only recognises a format, and needs other software to decode it (WMF, HDF5, GRIB, ...)."""
    factory = Image.OPEN[name][0]
    return isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile)


@cache
def suffixes() -> frozenset[str]:
    """Return the file suffixes of :func:`formats`, in lower case and without the dot."""
    known = set(formats())
    return frozenset(suffix[1:] for suffix, name in Image.registered_extensions().items() if name in known)


def decode_rgb(data: bytes) -> np.ndarray:
    """Return the pixels of an encoded image, uint8 [H, W, 3], turned upright, on white where it is transparent.

    Of an animation this is the first frame. Channels of more bits keep the upper 8. Metadata that cannot be read, such
    as a damaged EXIF block, count as absent.

    Raises:
        ImageError: there are no bytes; or the image is damaged, truncated, of an unknown format, over 16 megapixels, or
            of numbers whose range is not known.
    """
    with _reasons():
        image = _load(data)
        return _upright(on_white(image), image)


@contextmanager
def _reasons() -> Iterator[None]:
    """Raise ImageError with the reason for whatever Pillow raises in the block."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            "it is no image of a known format (JPEG, PNG, WEBP, AVIF, GIF, TIFF, ...), or its beginning is damaged"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"it has over {2 * MEGAPIXELS} megapixels: the most is {MEGAPIXELS}") from error
    except Exception as error:  # PIL raises nearly anything for damaged files, even struct.error and IndexError
        raise ImageError(
            f"it cannot be decoded: {str(error).splitlines()[0] if str(error) else repr(error)}"
        ) from error


def decode_alpha(data: bytes) -> np.ndarray:
    """Return the opacity of each pixel of an encoded image, uint8 [H, W], turned upright; 255 where it says none.

    Raises:
        ImageError: as :func:`decode_rgb` does.
    """
    with _reasons():
        image = _load(data)
        if not image.has_transparency_data:
            return np.full((image.height, image.width), 255, np.uint8)
        alpha = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        return _upright(alpha.getchannel("A"), image)


def _load(data: bytes) -> Image.Image:
    """Return a decoded image."""
    image = _open(data)
    _scale_transparent_colour(image)
    image.load()
    check_size(image)  # again: the picture inside an icon may be larger than the icon's header says
    return image


def _upright(pixels: Image.Image, image: Image.Image) -> np.ndarray:
    """Return the pixels of an image, turned as the image has to be."""
    turn = TRANSPOSE.get(_orientation(image))
    return np.asarray(pixels.transpose(turn) if turn is not None else pixels)


def _open(data: bytes) -> Image.Image:
    """Return an image whose header is read, and found not too large."""
    if not data:
        raise ImageError("it has no bytes: the file is missing or empty")
    image = Image.open(io.BytesIO(data), formats=formats())
    check_size(image)
    return image


def image_suffix(data: bytes) -> str:
    """Return the file suffix, without the dot, for the format of an image that :func:`decode_rgb` decodes."""
    name = _open(data).format or ""
    known = sorted(suffix[1:] for suffix, format_name in Image.registered_extensions().items() if format_name == name)
    return COMMON_SUFFIXES.get(name) or (name.lower() if name.lower() in known else known[0])


def check_size(image: Image.Image) -> None:
    """Check the size in an image's header before it is decoded.

    Raises:
        ImageError: it has no pixels, or over 16 megapixels, which would take too much memory to decode.
    """
    pixels = image.width * image.height
    if not pixels:
        raise ImageError("it has no pixels")
    if pixels > MAX_PIXELS:
        raise ImageError(f"it has {pixels / 1e6:.0f} megapixels: the most is {MEGAPIXELS}")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded image; 1, upright, if there is none or EXIF is damaged."""
    try:
        return int(image.getexif().get(Base.Orientation, 1))
    except Exception:  # of damaged EXIF, as of damaged images
        return 1


def on_white(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, on a white background; of 16-bit greys the upper byte is kept.

    Raises:
        ImageError: its pixels are floating-point numbers or integers of 32 bits, whose range the file does not say.
    """
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):  # Pillow scales PPM's integers to 16 bits
        raise ImageError(f"its pixels (mode {image.mode}) have 32 bits and no known range: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    drawing = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), drawing).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return the upper 8 bits of greys of 16 bits, or of a TIFF's 12, with the same transparency."""
    values, transparent = np.asarray(image), image.info.get("transparency")
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))[0]
    grey = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _scale_transparent_colour(image: Image.Image) -> None:
    """Scale a PNG's transparent colour, which has the file's bits per channel, as Pillow scales the pixels: to 8."""
    raw_mode = image.tile[0].args if isinstance(image, ImageFile.ImageFile) and image.tile else None
    transparent = image.info.get("transparency")
    if image.format == "PNG" and transparent is not None and raw_mode in TRANSPARENT_SCALE:
        scale = TRANSPARENT_SCALE[raw_mode]
        is_grey = isinstance(transparent, int)
        scaled = [int(value * scale) for value in ([transparent] if is_grey else transparent)]
        image.info["transparency"] = scaled[0] if is_grey else tuple(scaled)
