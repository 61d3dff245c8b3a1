"""Our figures against other implementations of them, with the same weights and images (``make test-peers``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from t2i.metrics.features import ExtractorConfig, FeatureExtractor, load_extractor
from t2i.metrics.fid import frechet_distance
from t2i.metrics.inception_score import inception_score
from t2i.metrics.kid import kernel_distance
from t2i.metrics.precision_recall import precision_recall
from t2i.metrics.statistics import FeatureStatistics

TwoSets = tuple[np.ndarray, np.ndarray]
"""Two sets of images uint8 [n, H, W, 3]."""

Features = tuple[np.ndarray, np.ndarray]
"""Features [n, F] and logits [n, classes] of a set of images."""


class Images(torch.utils.data.Dataset):
    """uint8 [3, H, W] tensors, as torch-fidelity takes them."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


@pytest.fixture(scope="module")
def extracted(inception_file: Path, two_sets: TwoSets) -> list[Features]:
    extractor = load_extractor(ExtractorConfig(weights=str(inception_file)))
    return [_all_batches(extractor, images) for images in two_sets]


def _all_batches(extractor: FeatureExtractor, images: np.ndarray) -> Features:
    batches = [extractor(images[start : start + 20]) for start in range(0, len(images), 20)]
    return np.concatenate([b.features for b in batches]), np.concatenate([b.logits for b in batches])


@pytest.fixture(scope="module")
def torch_fidelity_figures(inception_file: Path, two_sets: TwoSets) -> dict[str, float]:
    import torch_fidelity

    return torch_fidelity.calculate_metrics(
        input1=Images(two_sets[0]),
        input2=Images(two_sets[1]),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(inception_file),
        cuda=False,
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        kid_subset_size=20,
        cache=False,
        batch_size=20,
        verbose=False,
    )


def test_fid_is_torch_fidelitys(extracted: list[Features], torch_fidelity_figures: dict[str, float]) -> None:
    ours = frechet_distance(*(FeatureStatistics.of(features) for features, _ in extracted))
    assert ours == pytest.approx(torch_fidelity_figures["frechet_inception_distance"], rel=1e-4)


def test_kid_is_torch_fidelitys(extracted: list[Features], torch_fidelity_figures: dict[str, float]) -> None:
    ours = kernel_distance(extracted[0][0], extracted[1][0], subset_size=20)
    assert ours.mean == pytest.approx(torch_fidelity_figures["kernel_inception_distance_mean"], rel=1e-4)
    assert ours.std == pytest.approx(torch_fidelity_figures["kernel_inception_distance_std"], rel=1e-4)


def test_inception_score_is_torch_fidelitys(
    extracted: list[Features], torch_fidelity_figures: dict[str, float]
) -> None:
    ours = inception_score(extracted[0][1])
    assert ours.mean == pytest.approx(torch_fidelity_figures["inception_score_mean"], rel=1e-5)
    assert ours.std == pytest.approx(torch_fidelity_figures["inception_score_std"], rel=1e-3)


def test_precision_and_recall_are_torch_fidelitys(
    extracted: list[Features], torch_fidelity_figures: dict[str, float]
) -> None:
    # torch-fidelity's second input is the real side.
    ours = precision_recall(extracted[1][0], extracted[0][0])
    assert ours.precision == pytest.approx(torch_fidelity_figures["precision"])
    assert ours.recall == pytest.approx(torch_fidelity_figures["recall"])


def test_fid_is_torchmetrics_without_antialiasing(
    extracted: list[Features], inception_file: Path, two_sets: TwoSets
) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3

    network = NoTrainInceptionV3("x", ["2048"], str(inception_file), antialias=False)
    metric = FrechetInceptionDistance(feature=network, normalize=False)
    for images, real in zip(two_sets, (True, False), strict=True):
        for batch in torch.from_numpy(images).permute(0, 3, 1, 2).split(20):
            metric.update(batch, real=real)
    ours = frechet_distance(*(FeatureStatistics.of(features) for features, _ in extracted))
    assert ours == pytest.approx(float(metric.compute()), rel=1e-3)
