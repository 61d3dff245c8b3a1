from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t2i.evaluate.features import SUFFIX, FeatureFolder, ImageFeatures, encode_features, hash_images
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.reference import Reference, UnusableReferenceError, check_reference, write_reference
from t2i.evaluate.shards import ShardFolder
from t2i.metrics.features import ExtractorConfig, extractor_protocol

EXTRACTOR = extractor_protocol(ExtractorConfig())
RADII = [0.0, 2.0]


@pytest.fixture
def real(tmp_path: Path) -> ImageSet:
    features = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    hashes = hash_images(np.zeros((9, 2, 2, 3), np.uint8))
    images = ImageFeatures(list("abcdefghi"), hashes, features, {0.0: features, 2.0: features * 2}, {})
    folder = ShardFolder(f"{tmp_path}/real", SUFFIX)
    folder.write(0, encode_features({"real": images}, {}), {})
    return ImageSet("real", FeatureFolder(folder.uri, 1), SetLayout(str(tmp_path)), "p")


@pytest.fixture
def file(real: ImageSet, tmp_path: Path) -> str:
    uri = f"{tmp_path}/reference.npz"
    write_reference(real, EXTRACTOR, RADII, {"caption_hash": "abc"}, uri)
    return uri


def test_a_file_stands_for_the_images_it_was_made_of(real: ImageSet, file: str) -> None:
    found = check_reference(file, EXTRACTOR, RADII)
    assert (found["caption_hash"], len(found["merkle_root"])) == ("abc", 64)
    for radius in RADII:
        made, read = Reference(real).statistics(radius), Reference(None, file).statistics(radius)
        assert made.count == read.count == 9
        assert np.array_equal(made.mean, read.mean)
        np.testing.assert_allclose(made.m2, read.m2, rtol=1e-15)


def test_a_file_of_other_features_is_refused_by_what_differs(file: str) -> None:
    with pytest.raises(UnusableReferenceError, match="made by an extractor with another resize: use the same"):
        check_reference(file, replace(EXTRACTOR, resize="nearest"), RADII)
    with pytest.raises(UnusableReferenceError, match="has no blur of 4 px: leave it out of blur_radii"):
        check_reference(file, EXTRACTOR, [0.0, 4.0])


def test_what_is_no_reference_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no zip file")
    with pytest.raises(UnusableReferenceError, match=r"x\.npz, which is no \.npz of statistics"):
        check_reference(f"{tmp_path}/x.npz", EXTRACTOR, RADII)
    np.savez(tmp_path / "clean.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(UnusableReferenceError, match="does not say what it was made of"):
        check_reference(f"{tmp_path}/clean.npz", EXTRACTOR, RADII)
