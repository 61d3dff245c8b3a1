"""Our FID against torchmetrics', with the same weights and images (``make test-peers``).

Other implementations are compared in ``tests/t2i/metrics/test_parity.py``, since they need no other environment.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from t2i.metrics.features import ExtractorConfig, load_extractor
from t2i.metrics.fid import frechet_distance
from t2i.metrics.statistics import FeatureStatistics


def test_fid_is_torchmetrics_without_antialiasing(
    inception_file: Path, two_sets: tuple[np.ndarray, np.ndarray]
) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3

    network = NoTrainInceptionV3("x", ["2048"], str(inception_file), antialias=False)
    metric = FrechetInceptionDistance(feature=network, normalize=False)
    for images, real in zip(two_sets, (True, False), strict=True):
        for batch in torch.from_numpy(images).permute(0, 3, 1, 2).split(20):
            metric.update(batch, real=real)
    extractor = load_extractor(ExtractorConfig(weights=str(inception_file), batch=20))
    ours = frechet_distance(*(FeatureStatistics.of(extractor(images).features) for images in two_sets))
    assert ours == pytest.approx(float(metric.compute()), rel=1e-3)
