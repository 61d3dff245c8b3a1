"""Histograms of CLIP cosines."""

from __future__ import annotations

import numpy as np

from t2i.evaluate.histograms import BINS, count


def test_every_image_is_in_one_bin_and_all_sets_have_the_same_bins() -> None:
    cosines = {"best": np.array([0.5, 0.25, -0.5], np.float32), "real": np.array([0.5, 0.5], np.float32)}
    histogram = count(cosines)
    assert len(histogram.edges) == BINS + 1
    assert (histogram.edges[0], histogram.edges[-1]) == (-0.5, 0.5)
    assert {name: sum(counts) for name, counts in histogram.counts.items()} == {"best": 3, "real": 2}
    assert histogram.counts["real"][-1] == 2
    assert histogram.counts["best"][0] == 1
