"""Ranking candidates of one caption."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from models.reranker import rank


def test_scores_are_cosines_and_the_best_comes_first() -> None:
    images, caption = F.normalize(torch.randn(5, 8), dim=1), F.normalize(torch.randn(8), dim=0)
    ranking = rank(images, caption)
    assert torch.allclose(ranking.scores, F.cosine_similarity(images, caption[None]), atol=1e-6)
    assert ranking.order[0] == ranking.scores.argmax()
    assert ranking.scores[ranking.order].diff().le(0).all()


def test_of_equal_candidates_the_earlier_comes_first() -> None:
    images = torch.eye(2)[[1, 0, 1, 0]]
    assert rank(images, torch.tensor([1.0, 0.0])).order.tolist() == [1, 3, 0, 2]
