"""The three deployments of a model, as a gateway calls them, and what it knows of how busy they are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from t2i.serve.generation.ranking_time import RankingTime
from t2i.serve.generation.refusals import Refusals

CHUNKS, PREVIEWS = 32, 4
"""How many chunks of candidates, and previews, decoder and reranker have at once from a gateway: other chunks wait, and
other previews are passed over. Else previews would fill the decoder's queue, to which images have to come."""


@dataclass(frozen=True)
class StageHandles:
    """Serve's handles of the deployments, by which their methods are called; and their state, for all requests."""

    prior: Any
    decoder: Any
    reranker: Any
    refusals: Refusals = field(default_factory=Refusals)
    ranking_time: RankingTime = field(default_factory=RankingTime)
    chunks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CHUNKS))
    previews: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PREVIEWS))
