from __future__ import annotations

from pathlib import Path

import numpy as np

from t2i.evaluate.overlap import nearest_cosines, overlap_figures
from t2i.metrics.features import ExtractorProtocol
from t2i.metrics.fid import frechet_distance
from t2i.metrics.statistics import FeatureStatistics
from tests.t2i.evaluate.stored_sets import store_set

N = 60
EXTRACTOR = ExtractorProtocol("small", "0" * 64, "", "")
IDS = [f"{i:02d}" for i in range(N)]
IMAGE_IDS = {name: f"image{name}" for name in IDS}


def test_real_images_near_a_training_image_are_left_out_with_what_was_drawn_for_them(tmp_path: Path) -> None:
    clip = np.eye(N, 100, dtype=np.float32)
    drawn = store_set(tmp_path, "best", clip, 1.0, IDS)
    real = store_set(tmp_path, "real", clip, 0.0, list(IMAGE_IDS.values()))
    training = store_set(tmp_path, "train", clip[[3, 7, 7]], 0.0, ["a", "b", "c"])
    found = overlap_figures(drawn, real, training, IMAGE_IDS, EXTRACTOR, threshold=0.9)
    assert [figure.metric for figure in found] == ["fd_small", "kid_small"]
    kept = [row for row in range(N) if row not in (3, 7)]
    ours, theirs = (FeatureStatistics.of(images.features(0.0)[kept]) for images in (drawn, real))
    assert found[0].value == frechet_distance(ours, theirs)
    assert (found[0].n_subject, found[0].n_reference) == (N - 2, N - 2)
    assert found[0].details == {"threshold": 0.9, "left_out": 2, "training_images": 3}


def test_where_nearly_all_are_left_out_nothing_is_measured(tmp_path: Path) -> None:
    clip = np.eye(N, 100, dtype=np.float32)
    drawn, real = store_set(tmp_path, "best", clip, 1.0, IDS), store_set(tmp_path, "real", clip, 0.0, IDS)
    same = {name: name for name in IDS}
    assert overlap_figures(drawn, real, real, same, EXTRACTOR, threshold=0.5) == []


def test_the_nearest_of_many_is_found_block_by_block() -> None:
    random = np.random.default_rng(0)
    images, training = random.normal(size=(1500, 8)), random.normal(size=(2100, 8))
    images, training = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, training))
    found = nearest_cosines(images.astype(np.float32), training.astype(np.float32))
    np.testing.assert_allclose(found, (images @ training.T).max(axis=1), atol=1e-6)
