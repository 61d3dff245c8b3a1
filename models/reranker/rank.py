"""Candidates in the order of their likeness to a caption."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Ranking:
    """Cosines ``scores`` float32 [n], one of each candidate, and ``order`` int64 [n]: candidates, best first."""

    scores: Tensor
    order: Tensor


def rank(image_features: Tensor, caption_feature: Tensor) -> Ranking:
    """Unit-norm image features [n, E] and one caption's [E] -> their ranking; of equals the earlier comes first."""
    scores = (image_features @ caption_feature).float()
    return Ranking(scores, scores.argsort(descending=True, stable=True))
