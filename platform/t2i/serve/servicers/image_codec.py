"""Images to and from files in memory."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from t2i.image_files import ImageError, decode_rgb
from t2i.protos.v1.generation_pb2 import IMAGE_FORMAT_JPEG, IMAGE_FORMAT_PNG, IMAGE_FORMAT_WEBP, ImageFormat
from t2i.sampling import RequestError

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
    """Decode an image file to uint8 [H, W, 3], as training decodes it.

    Raises:
        RequestError: it cannot be used; the message names ``field``.
    """
    try:
        return decode_rgb(data)
    except ImageError as error:
        raise RequestError(field, f"{field} cannot be used: {error}.") from error
