"""What crosses the deployments' borders: small frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from t2i.sampling import SamplingParams


@dataclass(frozen=True)
class SampleOrder:
    """Image tokens wanted of the prior; ``deadline`` is a Unix time after which nobody waits for them."""

    caption: str
    candidates: int
    seed: int
    sampling: SamplingParams
    prefix: tuple[int, ...]
    deadline: float


@dataclass(frozen=True)
class SampleStart:
    """The prior's first event.

    Whether the caption's end was cut off, rows and columns of image tokens, hash of the prior's weights.
    """

    truncated: bool
    grid: tuple[int, int]
    model: str


@dataclass(frozen=True)
class DecodedImages:
    """``images`` uint8 [n, H, W, 3] and the hash of the dVAE's weights."""

    images: np.ndarray
    model: str


@dataclass(frozen=True)
class EncodedImages:
    """Image tokens int64 [n, h, w] and the hash of the dVAE's weights."""

    grids: np.ndarray
    model: str


@dataclass(frozen=True)
class RankedImages:
    """CLIP cosine of each image, their indices best first, and the hash of CLIP's weights."""

    scores: list[float]
    order: list[int]
    model: str
