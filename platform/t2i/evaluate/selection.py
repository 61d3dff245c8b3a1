"""Which captions of a set are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.errors import UserError
from t2i.data import Caption, read_captions
from t2i.evaluate.config import MIN_IMAGES, CaptionSet, EvaluateConfig


class TooFewCaptionsError(UserError):
    """A caption set is too small for the distances that are asked for."""


def choose_captions(caption_set: CaptionSet, config: EvaluateConfig) -> list[Caption]:
    """Return the captions of a set that are evaluated: all, or ``config.captions`` drawn at random.

    Raises:
        DataError: the source cannot be read.
        TooFewCaptionsError: they are to be compared with images and there are fewer than :data:`MIN_IMAGES`.
    """
    captions = sample_captions(read_captions(caption_set.source), config.captions, config.seed)
    if caption_set.images and len(captions) < MIN_IMAGES:
        raise TooFewCaptionsError(
            f"sets: {caption_set.name} has {len(captions)} captions to compare with images: "
            f"use at least {MIN_IMAGES}, or images=false."
        )
    return captions


def sample_captions(captions: Sequence[Caption], count: int | None, seed: int) -> list[Caption]:
    """Return ``count`` captions drawn at random with ``seed``, in their original order; all if ``count`` is None."""
    if count is None or count >= len(captions):
        return list(captions)
    chosen = np.random.default_rng(seed).choice(len(captions), count, replace=False)
    return [captions[index] for index in sorted(chosen)]
