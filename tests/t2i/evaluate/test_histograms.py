"""Histograms of CLIP cosines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from t2i.evaluate.histograms import BINS, count, own_cosines


def test_every_image_is_in_one_bin_and_all_sets_have_the_same_bins() -> None:
    cosines = {"best": np.array([0.5, 0.25, -0.5], np.float32), "real": np.array([0.5, 0.5], np.float32)}
    histogram = count(cosines)
    assert len(histogram.edges) == BINS + 1
    assert (histogram.edges[0], histogram.edges[-1]) == (-0.5, 0.5)
    assert {name: sum(counts) for name, counts in histogram.counts.items()} == {"best": 3, "real": 2}
    assert histogram.counts["real"][-1] == 2
    assert histogram.counts["best"][0] == 1


@pytest.mark.parametrize(
    ("captions", "expected"),
    [({"b": [0.0, 1.0], "a": [0.6, 0.8]}, [0.6, 1.0]), ({"b": [1.0, 0.0]}, [0.0]), ({"c": [1.0, 0.0]}, [])],
)
def test_each_image_is_beside_its_own_caption(captions: dict[str, list[float]], expected: list[float]) -> None:
    images = SimpleNamespace(ids=["a", "b"], clip=np.array([[1, 0], [0, 1]], np.float32))
    of = {name: np.array(feature, np.float32) for name, feature in captions.items()}
    found = own_cosines(cast(Any, images), cast(Any, SimpleNamespace(of=lambda _: of)))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
