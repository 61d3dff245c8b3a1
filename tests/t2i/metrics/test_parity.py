"""Our figures against other implementations of them, with the same random Inception and the same images."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from t2i.metrics.features import ExtractorConfig, FeatureExtractor, load_extractor
from t2i.metrics.fid import frechet_distance
from t2i.metrics.inception import load_inception
from t2i.metrics.inception_score import inception_score
from t2i.metrics.kid import kernel_distance
from t2i.metrics.mind import mind
from t2i.metrics.prdc import prdc
from t2i.metrics.statistics import FeatureStatistics
from t2i.metrics.torch_fidelity_check import compare_with_torch_fidelity

pytestmark = pytest.mark.slow

TwoSets = tuple[np.ndarray, np.ndarray]
"""Images uint8 [n, H, W, 3], or features [n, F], of generated and of real images."""

Extract = Callable[[str], TwoSets]
"""Maps a preset to the features of both sets."""


KID_SUBSET = 6
"""Half of the smaller set: ours takes no larger ones, theirs does."""


class Images(torch.utils.data.Dataset):
    """uint8 [3, H, W] tensors, as torch-fidelity takes them."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


@pytest.fixture(scope="module")
def extractor(inception_file: Path) -> FeatureExtractor:
    return load_extractor(ExtractorConfig(weights=str(inception_file), batch=16))


@pytest.fixture(scope="module")
def extract(inception_file: Path, two_sets: TwoSets) -> Extract:
    @functools.cache
    def features(preset: str) -> TwoSets:
        extractor = load_extractor(ExtractorConfig(weights=str(inception_file), preset=preset, batch=16))
        generated, real = (extractor(images).features for images in two_sets)
        return generated, real

    return features


@pytest.fixture(scope="module")
def theirs(inception_file: Path, two_sets: TwoSets) -> dict[str, float]:
    """torch-fidelity's figures; its first input is the generated side."""
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
        kid_subset_size=KID_SUBSET,
        cache=False,
        batch_size=16,
        verbose=False,
    )


@pytest.fixture(scope="module")
def folders(two_sets: TwoSets, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Both sets as PNG files, for tools that read only those."""
    paths = []
    for images in two_sets:
        folder = tmp_path_factory.mktemp("images")
        for index, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{index:03d}.png")
        paths.append(str(folder))
    return paths


def fid(features: TwoSets) -> float:
    return frechet_distance(*map(FeatureStatistics.of, features))


def test_fid_is_torch_fidelitys(extract: Extract, theirs: dict[str, float]) -> None:
    assert fid(extract("tf")) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)


def test_kid_is_torch_fidelitys(extract: Extract, theirs: dict[str, float]) -> None:
    ours = kernel_distance(*extract("tf"), subset_size=KID_SUBSET)
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert ours.std == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-4)


def test_inception_score_is_torch_fidelitys(
    extractor: FeatureExtractor, two_sets: TwoSets, theirs: dict[str, float]
) -> None:
    ours = inception_score(extractor(two_sets[0]).logits)
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-5)
    assert ours.std == pytest.approx(theirs["inception_score_std"], rel=1e-3)


@pytest.mark.parametrize("seed", [None, 2020])
def test_inception_score_of_equal_logits_is_torch_fidelitys_to_nine_digits(seed: int | None) -> None:
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = np.random.default_rng(0).normal(0, 4, (2307, 1008)).astype(np.float32)
    expected = isc_features_to_metric(torch.from_numpy(logits), 10, shuffle=seed is not None, rng_seed=seed or 0)
    ours = inception_score(logits, seed=seed)
    assert ours.mean == pytest.approx(expected["inception_score_mean"], rel=1e-9)
    assert ours.std == pytest.approx(expected["inception_score_std"], rel=1e-9)


def test_precision_and_recall_are_torch_fidelitys_image_for_image(extract: Extract, theirs: dict[str, float]) -> None:
    generated, real = extract("tf")
    ours = prdc(real, generated)
    assert ours.realistic.sum() == round(theirs["precision"] * len(generated))
    assert ours.recalled.sum() == round(theirs["recall"] * len(real))


def test_the_generated_side_is_the_same_as_torch_fidelitys() -> None:
    from torch_fidelity.metric_prc import prc_features_to_metric

    # One mode of two: all that is generated is real, but half of the real images cannot be generated.
    random = np.random.default_rng(0)
    generated = random.normal(size=(200, 8)).astype(np.float32)
    real = np.concatenate([random.normal(size=(200, 8)), random.normal(50, 1, (200, 8))]).astype(np.float32)
    expected = prc_features_to_metric(torch.from_numpy(generated), torch.from_numpy(real), verbose=False)
    ours = prdc(real, generated).means()
    assert (ours["precision"], ours["recall"]) == pytest.approx((expected["precision"], expected["recall"]), abs=1e-7)
    assert ours["recall"] < 0.5 < ours["precision"]


def test_all_four_are_the_prdc_packages() -> None:
    from prdc import compute_prdc

    random = np.random.default_rng(1)
    real, generated = random.normal(size=(700, 16)), random.normal(0.2, 0.9, (1300, 16))
    expected = compute_prdc(real, generated, nearest_k=5)
    assert prdc(real, generated, neighbours=5).means() == pytest.approx(expected, rel=1e-12)


def test_mind_is_torch_fidelitys() -> None:
    theirs = pytest.importorskip("torch_fidelity.metric_mind", reason="torch-fidelity has MIND from 0.5 on")
    random = np.random.default_rng(2)
    a, b = random.normal(size=(90, 64)).astype(np.float32), random.normal(0.1, 1, (70, 64)).astype(np.float32)
    expected = theirs.mind_features_to_metric(torch.from_numpy(a), torch.from_numpy(b), cuda=False, verbose=False)
    assert mind(a, b).value == pytest.approx(expected["monge_inception_distance"], rel=1e-4)


def test_the_reports_comparison_agrees() -> None:
    random = np.random.default_rng(3)
    generated, real = (random.normal(shift, 1, (300, 32)).astype(np.float32) for shift in (0.0, 0.3))
    compared = compare_with_torch_fidelity(generated, real)
    assert [each.metric for each in compared] == ["fid", "kid"]
    assert max(each.relative_difference for each in compared) < 1e-4


def test_features_are_pytorch_fids_under_its_preset(
    extract: Extract, inception_file: Path, folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytorch_fid import inception
    from pytorch_fid.fid_score import compute_statistics_of_path

    state = torch.load(inception_file, weights_only=True)  # noqa: TID251 (written by this test)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
    network = inception.InceptionV3()
    theirs = [compute_statistics_of_path(folder, network, 16, 2048, "cpu", num_workers=0) for folder in folders]
    expected = [
        FeatureStatistics(len(features), mean, covariance * (len(features) - 1))
        for features, (mean, covariance) in zip(extract("pytorch-fid"), theirs, strict=True)
    ]
    assert fid(extract("pytorch-fid")) == pytest.approx(frechet_distance(*expected), rel=1e-4)


@pytest.mark.parametrize("module", ["pytorch_fid.fid_score", "cleanfid.fid"])
def test_distance_is_pytorch_fids_and_clean_fids(module: str) -> None:
    # At full rank: of fewer images than features their matrix square root takes minutes and is off by 1e-4.
    theirs = importlib.import_module(module)
    distance = getattr(theirs, "calculate_frechet_distance", None) or theirs.frechet_distance
    random = np.random.default_rng(4)
    sets = random.normal(size=(400, 48)), random.normal(0.1, 1.2, (300, 48))
    (mean_a, cov_a), (mean_b, cov_b) = ((x.mean(axis=0), np.cov(x, rowvar=False)) for x in sets)
    assert fid(sets) == pytest.approx(distance(mean_a, cov_a, mean_b, cov_b), rel=1e-9)


class TorchScriptInception(nn.Module):
    """The network with the parts that clean-fid looks for in its own file."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.layers = Features(network)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Features(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[0]


def test_features_are_clean_fids_under_its_preset(
    extract: Extract, inception_file: Path, folders: list[str], tmp_path: Path
) -> None:
    from cleanfid.fid import get_folder_features
    from cleanfid.inception_torchscript import InceptionV3W

    script: Any = torch.jit.trace(TorchScriptInception(load_inception(inception_file)), torch.zeros(2, 3, 299, 299))
    script.save(tmp_path / "inception-2015-12-05.pt")
    network = InceptionV3W(str(tmp_path), download=False)
    cpu = torch.device("cpu")
    theirs = [
        get_folder_features(folder, network, num_workers=0, batch_size=16, device=cpu, verbose=False)
        for folder in folders
    ]
    assert fid(extract("clean")) == pytest.approx(fid((theirs[0], theirs[1])), rel=1e-4)


def test_presets_are_different_figures(extract: Extract) -> None:
    values = [fid(extract(preset)) for preset in ("tf", "pytorch-fid", "clean")]
    for index, value in enumerate(values):
        assert all(abs(other / value - 1) > 1e-3 for other in values[index + 1 :])


def test_fid_with_fewer_images_than_features_is_the_nuclear_norm(extract: Extract) -> None:
    # tr((C_a C_b)^(1/2)) is the sum of the singular values of A B^T for centred features A and B of unit covariance.
    a, b = (features.astype(np.float64) for features in extract("tf"))
    shift = a.mean(axis=0) - b.mean(axis=0)
    a, b = ((x - x.mean(axis=0)) / (len(x) - 1) ** 0.5 for x in (a, b))
    oracle = shift @ shift + (a**2).sum() + (b**2).sum() - 2 * np.linalg.norm(a @ b.T, ord="nuc")
    assert fid(extract("tf")) == pytest.approx(oracle, rel=1e-5)
