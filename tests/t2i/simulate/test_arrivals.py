"""When requests come: as many as asked for, when they should."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random
from statistics import fmean, variance

import numpy as np
import pytest

from t2i.simulate.arrivals import Load


def test_steady_arrivals_are_poisson() -> None:
    moments = list(Load(rate=20.0, seconds=1000.0).moments(Random(0)))
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert fmean(gaps) == pytest.approx(1 / 20, rel=0.03)
    assert variance(gaps) == pytest.approx(1 / 20**2, rel=0.06)  # as the exponential distribution's


def test_a_day_swings_around_its_average() -> None:
    day = Load(rate=50.0, seconds=800.0, shape="day", swing=0.6)
    counts, _ = np.histogram(list(day.moments(Random(0))), bins=8, range=(0, 800))
    middles = [day.rate_at(100 * (number + 0.5)) * 100 for number in range(8)]
    assert counts == pytest.approx(middles, rel=0.1)
    assert counts.sum() == pytest.approx(50 * 800, rel=0.03)
    assert day.rate_at(400.0) == pytest.approx(day.highest_rate)
    assert day.rate_at(0.0) == pytest.approx(50.0 * 0.4)


def test_a_burst_is_where_and_as_large_as_asked_for() -> None:
    burst = Load(rate=10.0, seconds=100.0, shape="burst", burst=5.0, burst_begin=0.5, burst_part=0.1)
    moments = np.array(list(burst.moments(Random(0))))
    assert ((moments >= 50) & (moments < 60)).sum() == pytest.approx(500, rel=0.15)
    assert (moments < 50).sum() == pytest.approx(500, rel=0.15)
    assert math.isclose(burst.rate_at(59.9), 50.0)
    assert math.isclose(burst.rate_at(60.1), 10.0)


def test_what_is_no_load_is_refused() -> None:
    with pytest.raises(ValueError, match=r"load\.shape is 'night': use steady, day or burst"):
        Load(shape="night")
    with pytest.raises(ValueError, match=r"load\.uncounted is 60: use less than load\.seconds, 60"):
        Load(uncounted=60.0)
