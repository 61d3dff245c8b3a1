"""The reranker: CLIP scores each candidate against its caption (paper section 2.6)."""

from models.reranker.accounting import clip_training_flops
from models.reranker.clip import CLIPConfig, CLIPReranker
from models.reranker.rank import Ranking, encode_filled, rank, rank_images

__all__ = [
    "CLIPConfig",
    "CLIPReranker",
    "Ranking",
    "clip_training_flops",
    "encode_filled",
    "rank",
    "rank_images",
]
