"""Candidates ranked by how well CLIP finds that they match their caption (paper section 2.6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.reranker.clip import CLIPReranker

RANK_BATCH = 8
"""Images that are encoded at once, by default."""


@dataclass(frozen=True)
class Ranking:
    """CLIP cosines ``scores`` float32 [n] of the candidates, and ``order`` int64 [n], their indices best first."""

    scores: Tensor
    order: Tensor


@torch.no_grad()
def rank_images(reranker: CLIPReranker, prepared: Tensor, caption_feature: Tensor, batch: int = RANK_BATCH) -> Ranking:
    """Rank images [n, 3, side, side] by their CLIP cosine with a caption's unit-norm feature [F].

    ``prepared`` are images as :meth:`CLIPReranker.prepare` makes them; images of different sizes are prepared one by
    one and then concatenated. They are encoded in batches of exactly ``batch`` images, the last one filled up with
    zeros: the arithmetic of one image, and so the last bits of its score, then does not depend on how many others are
    ranked with it.
    """
    return rank(encode_filled(reranker, prepared, batch), caption_feature)


@torch.no_grad()
def encode_filled(reranker: CLIPReranker, prepared: Tensor, batch: int = RANK_BATCH) -> Tensor:
    """Return unit-norm features [n, F] of prepared images, encoded in batches that are filled up to ``batch``."""
    return torch.cat([_encode_filled(reranker, part, batch) for part in torch.split(prepared, batch)])


def rank(image_features: Tensor, caption_feature: Tensor) -> Ranking:
    """Rank unit-norm image features [n, F] by dot product with a caption's [F]; equal scores keep their order."""
    # Row by row: a matrix product sums in another order for another n, and the score stands in the image's file.
    scores = (image_features.float() * caption_feature.float()).sum(dim=-1)
    return Ranking(scores, scores.argsort(descending=True, stable=True))


def _encode_filled(reranker: CLIPReranker, prepared: Tensor, batch: int) -> Tensor:
    """Return features [b, F] of b <= ``batch`` prepared images, computed as a batch filled up with zeros."""
    filling = prepared.new_zeros(batch - len(prepared), *prepared.shape[1:])
    return reranker.encode_prepared(torch.cat([prepared, filling]))[: len(prepared)]
