from __future__ import annotations

import numpy as np

from t2i.metrics.retrieval import recall_at, retrieval_ranks


def test_ranks_count_the_targets_that_fit_better() -> None:
    captions = np.eye(4)
    images = np.array([[1, 0, 0, 0], [0.9, 0.1, 0, 0], [0.4, 0.3, 0.2, 0.1], [0, 0, 0, 1.0]])
    ranks = retrieval_ranks(images, captions)
    assert ranks.tolist() == [1, 2, 3, 1]
    assert [recall_at(ranks, k) for k in (1, 2, 3)] == [0.5, 0.75, 1.0]
