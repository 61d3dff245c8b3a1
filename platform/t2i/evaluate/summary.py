"""What the driver learns of all candidates: sums over the shards' done-records, one record at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from t2i.evaluate.layout import SetLayout
from t2i.evaluate.shards import ShardFolder

READERS = 16


@dataclass(frozen=True)
class CandidateSummary:
    """Of the captions ``ids`` their best CLIP cosines ``best``, and of all candidates what does not grow with them.

    ``mean_by_rank`` float64 [n] is the mean cosine of each caption's best, second best, ... candidate; ``truncated``
    counts captions that were too long for the prior.
    """

    ids: list[str]
    best: list[float]
    mean_by_rank: np.ndarray
    truncated: int


def summarise(layout: SetLayout, shards: int) -> CandidateSummary:
    """Return the summary of a caption set whose ``shards`` are all drawn."""
    folder = ShardFolder(layout.candidates, ".parquet")
    ids, best, truncated, sums = [], [], 0, np.zeros(0)
    with ThreadPoolExecutor(READERS) as pool:
        for record in pool.map(folder.record, range(shards)):
            ids += record["ids"]
            best += record["best"]
            truncated += record["truncated"]
            sums = np.array(record["score_sums"]) + (sums if len(sums) else 0)
    return CandidateSummary(ids, best, sums / len(ids), truncated)
