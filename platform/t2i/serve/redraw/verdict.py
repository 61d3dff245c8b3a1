"""Whether a picture that is drawn again is the same, and if not, what differs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.manifest import SHORT
from t2i.image_files import decode_rgb
from t2i.serve.generation.image_codec import encode_image
from t2i.serve.generation.receipt import PictureRecipe, Setup, differences, pixels_hash, tokens_hash
from t2i.serve.redraw.drawing import Drawer, Drawn

DECIDING = {"tokenizer": "tokenizer", "prior.weights": "prior", "decoder.weights": "dVAE", "engine": "engine"}
"""Parts of a setup without which the same picture cannot come out, by what people call them."""


def redraw(pixels: np.ndarray, picture: PictureRecipe, drawer: Drawer) -> list[str]:
    """Return what differs, a line each, between a picture with these pixels uint8 [H, W, 3] and the one drawn again.

    None: they are identical, token for token and pixel for pixel, with the same score. With another tokenizer, prior,
    dVAE or engine nothing is drawn.
    """
    other = dict(_setup_lines(picture.recipe.setup, drawer.setup))
    if other.keys() & DECIDING.keys():
        return list(other.values())
    results = list(_result_lines(pixels, picture, drawer.draw(picture)))
    return [*results, *other.values()] if results else []


def _setup_lines(before: Setup, now: Setup) -> Iterator[tuple[str, str]]:
    """Yield every field that differs, with a line that says how."""
    for name, old, new in differences(before, now):
        if len(str(old)) == len(str(new)) == 64:
            old, new = old[:SHORT], new[:SHORT]
        yield name, f"{DECIDING.get(name, name)}: {old!r} in the picture, {new!r} here"


def _result_lines(pixels: np.ndarray, picture: PictureRecipe, drawn: Drawn) -> Iterator[str]:
    if tokens_hash(drawn.image_tokens) != picture.tokens_sha256:
        yield "image tokens: others were drawn"
    if pixels_hash(drawn.image) != picture.pixels_sha256:
        yield "pixels: others were drawn"
    elif not np.array_equal(_through_file(drawn.image, picture), pixels):
        yield f"file: its pixels are not those that were saved as {picture.file_format}: it was changed or saved anew"
    if drawn.score != picture.score:
        yield f"score: {picture.score} in the picture, {drawn.score} here"


def _through_file(image: np.ndarray, picture: PictureRecipe) -> np.ndarray:
    """Return the pixels that a file of the picture's format has of an image."""
    return decode_rgb(encode_image(image, picture.file_format, picture.quality))
