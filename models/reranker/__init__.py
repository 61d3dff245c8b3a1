"""The reranker: CLIP scores each candidate against its caption (paper section 2.6)."""

from models.reranker.clip import CLIPConfig, CLIPReranker
from models.reranker.rank import Ranking, rank

__all__ = ["CLIPConfig", "CLIPReranker", "Ranking", "rank"]
