"""The shape of a model's images."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageShape:
    """The images that a model makes: rows and columns of image tokens, and pixels of the side of a token."""

    rows: int
    columns: int
    token_side: int

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.columns * self.token_side

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.rows * self.token_side
