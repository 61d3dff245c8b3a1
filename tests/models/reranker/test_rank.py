"""Ranking candidates of one caption."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.reranker import CLIPReranker, rank, rank_images


def test_scores_are_cosines_and_the_best_comes_first() -> None:
    images, caption = F.normalize(torch.randn(5, 8), dim=1), F.normalize(torch.randn(8), dim=0)
    ranking = rank(images, caption)
    assert torch.allclose(ranking.scores, F.cosine_similarity(images, caption[None]), atol=1e-6)
    assert ranking.order[0] == ranking.scores.argmax()
    assert ranking.scores[ranking.order].diff().le(0).all()


def test_a_score_has_the_same_bits_in_any_company() -> None:
    images, caption = F.normalize(torch.randn(8, 512), dim=1), F.normalize(torch.randn(512), dim=0)
    together = rank(images, caption).scores
    for first, last in itertools.combinations(range(9), 2):
        assert torch.equal(rank(images[first:last], caption).scores, together[first:last])


def test_of_equal_candidates_the_earlier_comes_first() -> None:
    images = torch.eye(2)[[1, 0, 1, 0]]
    assert rank(images, torch.tensor([1.0, 0.0])).order.tolist() == [1, 3, 0, 2]


class Summing(CLIPReranker):
    """Stands in for CLIP: the feature of an image is its sum over pixels; ``batches`` records what was encoded."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.batches: list[int] = []

    def encode_prepared(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return images.sum(dim=(2, 3))


@pytest.mark.parametrize("count", [1, 4, 9])
def test_images_are_ranked_in_filled_batches(count: int) -> None:
    reranker, images, caption = Summing(), torch.randn(count, 3, 2, 2), torch.randn(3)
    ranking, expected = rank_images(reranker, images, caption, batch=4), rank(images.sum(dim=(2, 3)), caption)
    torch.testing.assert_close(ranking.scores, expected.scores)
    assert ranking.order.tolist() == expected.order.tolist()
    assert reranker.batches == [4] * -(-count // 4)
