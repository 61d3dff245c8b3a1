"""Images as files in memory."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

FILE_FORMATS = ("png", "jpeg", "webp")
"""The formats of image files, as users name them; the first is the default."""


QUALITY = 92
"""Of JPEG and WebP files, unless a request says."""


def encode_image(image: np.ndarray, file_format: str, quality: int = QUALITY) -> bytes:
    """Encode an image uint8 [H, W, 3] as a PNG, JPEG or WebP file; PNG is lossless whatever the ``quality``."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, file_format, quality=quality)
    return buffer.getvalue()
