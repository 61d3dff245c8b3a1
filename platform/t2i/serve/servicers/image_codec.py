"""Images to and from PNG, JPEG and WebP files in memory."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from t2i.protos.v1.generation_pb2 import IMAGE_FORMAT_JPEG, IMAGE_FORMAT_PNG, IMAGE_FORMAT_WEBP, ImageFormat
from t2i.sampling import RequestError

MAX_PIXELS = 16_000_000
"""The largest image that a client may send; a small file may unpack to gigabytes."""

ENCODINGS = {IMAGE_FORMAT_PNG: "PNG", IMAGE_FORMAT_JPEG: "JPEG", IMAGE_FORMAT_WEBP: "WEBP"}


def check_format(value: ImageFormat.ValueType) -> ImageFormat.ValueType:
    """Return the format to encode with, PNG if it is unspecified.

    Raises:
        RequestError: there is no such format.
    """
    image_format = value or IMAGE_FORMAT_PNG
    if image_format not in ENCODINGS:
        raise RequestError("format", f"format is {value}: use {', '.join(ENCODINGS.values())}.")
    return image_format


def encode_image(image: np.ndarray, image_format: ImageFormat.ValueType) -> bytes:
    """Encode an image uint8 [H, W, 3] as a PNG, JPEG or WebP file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, ENCODINGS[image_format], quality=92)
    return buffer.getvalue()


def decode_image(data: bytes, field: str) -> np.ndarray:
    """Decode a PNG, JPEG or WebP file to uint8 [H, W, 3]; its size is checked before it is unpacked.

    Raises:
        RequestError: it is no such file, damaged, or larger than 16 megapixels; it names ``field``.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=list(ENCODINGS.values()))
        if image.width * image.height > MAX_PIXELS:
            raise RequestError(field, f"{field} has {image.width} x {image.height} pixels: use at most 16 megapixels.")
        return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(field, f"{field} is not a whole PNG, JPEG or WebP file: send one that opens.") from error
