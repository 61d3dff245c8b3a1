"""Images to and from the bytes that go over the wire."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from t2i.protos.v1.generation_pb2 import IMAGE_FORMAT_JPEG, IMAGE_FORMAT_PNG, IMAGE_FORMAT_WEBP, ImageFormat
from t2i.sampling import RequestError

MAX_PIXELS = 16_000_000
ENCODINGS = {IMAGE_FORMAT_PNG: "PNG", IMAGE_FORMAT_JPEG: "JPEG", IMAGE_FORMAT_WEBP: "WEBP"}


def check_format(value: ImageFormat.ValueType) -> ImageFormat.ValueType:
    """The format to encode with; unspecified means PNG.

    Raises:
        RequestError: there is no such format.
    """
    image_format = value or IMAGE_FORMAT_PNG
    if image_format not in ENCODINGS:
        raise RequestError("format", f"format is {value}: use {', '.join(ENCODINGS.values())}.")
    return image_format


def encode_image(image: np.ndarray, image_format: ImageFormat.ValueType) -> bytes:
    """uint8 [H, W, 3] -> a PNG, JPEG or WebP file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, ENCODINGS[image_format], quality=92)
    return buffer.getvalue()


def decode_image(data: bytes, field: str) -> np.ndarray:
    """A PNG, JPEG or WebP file -> uint8 [H, W, 3]; the size is checked before anything is unpacked.

    Raises:
        RequestError: it is no such file, damaged, or larger than 16 megapixels.
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
