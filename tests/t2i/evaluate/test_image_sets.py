from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from t2i.evaluate import image_sets
from t2i.evaluate.features import SUFFIX, FeatureFolder, ImageFeatures, encode_features, hash_images
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.shards import ShardFolder
from t2i.metrics.statistics import FeatureStatistics
from t2i.storage import DataError, read_file

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(10, 6)).astype(np.float32)
CLIP = RANDOM.normal(size=(10, 4)).astype(np.float32)


def images(rows: slice) -> ImageFeatures:
    ids = [f"é{row}" for row in range(10)[rows]]
    features = {0.0: FEATURES[rows], 2.0: 2 * FEATURES[rows]}
    return ImageFeatures(ids, hash_images(np.zeros((len(ids), 2, 2, 3), np.uint8)), CLIP[rows], features, features)


@pytest.fixture
def real(tmp_path: Path) -> ImageSet:
    folder = ShardFolder(f"{tmp_path}/features/p/real", SUFFIX)
    for shard, rows in enumerate([slice(0, 4), slice(4, 10)]):
        folder.write(shard, encode_features({"real": images(rows)}, {"captions": CLIP[rows]}), {})
    return ImageSet("real", FeatureFolder(folder.uri, 2), SetLayout(str(tmp_path)), "p")


def test_columns_of_all_shards_come_in_order(real: ImageSet) -> None:
    assert real.ids == [f"é{row}" for row in range(10)]
    np.testing.assert_array_equal(real.clip, CLIP)
    np.testing.assert_array_equal(real.features(2.0), 2 * FEATURES)
    np.testing.assert_array_equal(real.logits(0.0), FEATURES)
    np.testing.assert_array_equal(real.folder.column("captions"), CLIP)
    assert real.hashes.shape == (10, 32)


def test_a_missing_shard_is_an_error_and_not_a_smaller_set(real: ImageSet) -> None:
    Path(real.folder.folder.path(1)).unlink()
    with pytest.raises(DataError, match=r"00001\.npz"):
        _ = real.clip


def test_statistics_are_the_same_bits_whether_made_or_found(real: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_sets, "CHUNK", 3)
    made, found = real.statistics(0.0), real.statistics(0.0)
    assert (made.count, made.mean.tobytes(), made.m2.tobytes()) == (10, found.mean.tobytes(), found.m2.tobytes())
    expected = FeatureStatistics.of(FEATURES)
    np.testing.assert_allclose(made.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(made.covariance, expected.covariance, rtol=1e-12)


def test_the_file_of_statistics_is_pytorch_fids(real: ImageSet) -> None:
    real.statistics(2.0)
    with np.load(io.BytesIO(read_file(real.layout.statistics("p", "real", 2.0)))) as arrays:
        np.testing.assert_allclose(arrays["mu"], 2 * FEATURES.mean(axis=0, dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(arrays["sigma"], np.cov(2 * FEATURES, rowvar=False, dtype=np.float64), rtol=1e-9)
