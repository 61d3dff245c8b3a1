"""What the gateway sends to the replicas and what they answer: small frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from t2i.sampling import SamplingParams


@dataclass(frozen=True)
class CaptionRequest:
    """A checked request to the prior: the caption in words, and how its image tokens are to be sampled.

    ``prefix`` are image tokens with which every candidate begins; ``deadline`` is a Unix time.
    """

    caption: str
    candidates: int
    seed: int
    sampling: SamplingParams
    prefix: tuple[int, ...]
    deadline: float


@dataclass(frozen=True)
class SampleHeader:
    """The prior's first event, before any image token is made.

    Attributes:
        truncated: whether the caption has more tokens than the prior takes, so that its end is not read.
        grid: rows and columns (h, w) of the image tokens that follow.
        model: hash of the prior's weights.
    """

    truncated: bool
    grid: tuple[int, int]
    model: str


@dataclass(frozen=True)
class DecodedImages:
    """The decoder's ``images`` uint8 [n, H, W, 3], and the hash of the dVAE's weights."""

    images: np.ndarray
    model: str


@dataclass(frozen=True)
class EncodedImages:
    """The image tokens int64 [n, h, w] of n images, and the hash of the dVAE's weights."""

    grids: np.ndarray
    model: str


@dataclass(frozen=True)
class RankedImages:
    """CLIP's cosine of each image, the images' indices best first, and the hash of CLIP's weights."""

    scores: list[float]
    order: list[int]
    model: str
