"""The best candidates so far; the pixels of all others are let go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class RankedCandidate:
    """A candidate with its score, and where its pixels are.

    Attributes:
        grid: its image tokens int32 [h, w].
        score: CLIP's cosine with the caption.
        decoded: the decoder's response that has its pixels, among others', in the object store.
        row: which of the images in ``decoded`` it is.
    """

    candidate: int
    grid: np.ndarray
    score: float
    decoded: Any
    row: int


class BestCandidates:
    """At most ``keep`` ranked candidates, best first; of equal scores the lower number comes first."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._best: list[RankedCandidate] = []

    def add(self, ranked: list[RankedCandidate]) -> None:
        """Take up more candidates, and drop those that no longer belong to the best."""
        ordered = sorted([*self._best, *ranked], key=lambda each: (-each.score, each.candidate))
        self._best = ordered[: self._keep]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._best)
