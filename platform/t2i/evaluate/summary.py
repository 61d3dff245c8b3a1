"""What the driver learns of all candidates: sums over the shards' done-records, one record at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from t2i.evaluate.candidates import candidates_folder
from t2i.evaluate.layout import SetLayout


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
    ids, best, truncated, sums = [], [], 0, np.zeros(0)
    for record in candidates_folder(layout.candidates).records(shards):
        ids += record["ids"]
        best += record["best"]
        truncated += record["truncated"]
        sums = np.array(record["score_sums"]) + (sums if len(sums) else 0)
    return CandidateSummary(ids, best, sums / len(ids), truncated)
