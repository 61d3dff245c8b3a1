"""Images as files in memory."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from t2i.serve.generation.picture_files import recipe_options
from t2i.serve.generation.receipt import PictureRecipe

QUALITY = 92
"""Of JPEG and WebP files, unless a request says."""


def encode_image(
    image: np.ndarray, file_format: str, quality: int = QUALITY, recipe: PictureRecipe | None = None
) -> bytes:
    """Encode an image uint8 [H, W, 3] as a PNG, JPEG or WebP file, with its recipe if there is one.

    PNG is lossless whatever the ``quality``.
    """
    buffer = io.BytesIO()
    options = recipe_options(recipe) if recipe else {}
    Image.fromarray(image).save(buffer, file_format, quality=quality, **options)
    return buffer.getvalue()
