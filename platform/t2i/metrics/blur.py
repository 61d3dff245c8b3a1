"""Gaussian blur of both sides before a distance, to compare low-frequency content (paper section 3.1)."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter


def gaussian_blur(images: np.ndarray, radius: float) -> np.ndarray:
    """uint8 [B, H, W, 3] -> the same, blurred by PIL with sigma = radius pixels; 0 changes nothing.

    The paper names no library; PIL's filter has sigma 0.99 / 2.00 / 3.98 / 8.01 at its radii 1 / 2 / 4 / 8.
    """
    if radius == 0:
        return images
    blur = ImageFilter.GaussianBlur(radius)
    return np.stack([np.asarray(Image.fromarray(image).filter(blur)) for image in images])
