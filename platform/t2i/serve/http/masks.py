"""Masks of edits: the model draws an image from the top, so that only its bottom rows can be drawn anew."""

from __future__ import annotations

import numpy as np

from t2i.image_files import ImageError, decode_alpha
from t2i.sampling import RequestError

OPAQUE = 255


def kept_rows(image: bytes, mask: bytes | None, rows: int) -> int:
    """Return how many of an image's ``rows`` rows of image tokens a mask keeps: those that it does not clear.

    Without a mask it is the image's own transparency. Both are files.

    Raises:
        RequestError: a file cannot be used, their sizes differ, the image is not square, or the transparent part is not
            the bottom of the image, beginning where a row of image tokens begins.
    """
    alpha = _alpha("image", image)
    height, width = alpha.shape
    if height != width:
        raise RequestError("image", f"image is {width}x{height}: send a square one.")
    if mask is not None:
        alpha = _alpha("mask", mask)
        if alpha.shape != (height, width):
            sizes = f"mask is {alpha.shape[1]}x{alpha.shape[0]} and image {width}x{height}"
            raise RequestError("mask", f"{sizes}: send a mask of the image's size.")
    return _rows_above(alpha, rows)


def _alpha(field: str, data: bytes) -> np.ndarray:
    try:
        return decode_alpha(data)
    except ImageError as error:
        raise RequestError(field, f"{field} cannot be used: {error}.") from error


def _rows_above(alpha: np.ndarray, rows: int) -> int:
    """Return how many of ``rows`` rows are above the transparent part, given the opacity uint8 [H, W] of each pixel."""
    height = len(alpha)
    top = int(np.argmax((alpha == 0).all(axis=1))) if (alpha == 0).any() else height
    if not ((alpha[:top] == OPAQUE).all() and (alpha[top:] == 0).all()):
        sentence = (
            "mask is not possible: the model draws from the top, so the bottom rows must be transparent, no more."
        )
        raise RequestError("mask", sentence)
    kept, rest = divmod(top * rows, height)
    if rest:
        below, above = (round(row * height / rows) for row in (kept, kept + 1))
        raise RequestError("mask", f"mask is transparent from pixel row {top} on: let it begin at {below} or {above}.")
    if not 0 < kept < rows:
        raise RequestError("mask", "mask keeps all of the image or nothing: let only its bottom rows be transparent.")
    return kept
