"""What a picture is drawn again by, and what comes of it; where it is drawn makes no difference here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from t2i.serve.generation.receipt import PictureRecipe, Setup


@dataclass(frozen=True)
class Drawn:
    """The image tokens int32 [N] of a candidate, its pixels uint8 [H, W, 3] and its CLIP cosine with the caption."""

    image_tokens: np.ndarray
    image: np.ndarray
    score: float


class Drawer(Protocol):
    """Something that draws pictures of one model again."""

    @property
    def setup(self) -> Setup:
        """What computes there."""

    def draw(self, picture: PictureRecipe) -> Drawn:
        """Draw the candidate of a picture again."""
