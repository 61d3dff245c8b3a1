"""Ranking candidates by how well they match their caption."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Ranking:
    """n candidates of a caption: their cosines ``scores`` float32 [n], and ``order`` int64 [n], the best one first."""

    scores: Tensor
    order: Tensor


def rank(image_features: Tensor, caption_feature: Tensor) -> Ranking:
    """Rank n images by unit-norm features, theirs [n, F] and the caption's [F]; of equals the earlier comes first."""
    scores = (image_features @ caption_feature).float()
    return Ranking(scores, scores.argsort(descending=True, stable=True))
