from __future__ import annotations

import numpy as np
import pytest

from t2i.metrics.fid import frechet_distance
from t2i.metrics.fid_infinity import fid_infinity
from t2i.metrics.statistics import FeatureStatistics


def test_takes_the_bias_of_few_images_off() -> None:
    random = np.random.default_rng(0)
    reference = FeatureStatistics.of(random.normal(size=(100_000, 16)))
    features = random.normal(size=(1500, 16))
    biased = frechet_distance(FeatureStatistics.of(features), reference)  # the true distance is 0
    found = fid_infinity(features, reference)
    assert abs(found.value) < 0.3 * biased
    assert 0 < found.standard_error < 0.3 * biased
    assert found == fid_infinity(features, reference)


def test_refuses_fewer_images_than_the_line_needs() -> None:
    features = np.random.default_rng(1).normal(size=(31, 3))
    with pytest.raises(ValueError, match="at least 32"):
        fid_infinity(features, FeatureStatistics.of(features))
