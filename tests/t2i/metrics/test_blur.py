from __future__ import annotations

import numpy as np
import pytest

from t2i.metrics.blur import gaussian_blur


def test_radius_zero_changes_nothing() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    assert gaussian_blur(images, 0) is images


@pytest.mark.parametrize("radius", [1, 2, 4])
def test_sigma_is_the_radius_in_pixels(radius: int) -> None:
    # An edge blurred by a Gaussian is its integral: the slope's second moment is sigma squared.
    edge = np.zeros((1, 4, 96, 3), np.uint8)
    edge[:, :, 48:] = 255
    slope = np.diff(gaussian_blur(edge, radius)[0, 2, :, 0].astype(float)) / 255
    places = np.arange(95) - 47
    assert np.sqrt((slope * places**2).sum()) == pytest.approx(radius, rel=0.05)
