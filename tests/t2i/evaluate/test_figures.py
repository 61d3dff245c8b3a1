from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from t2i.data.tensors import tensor_column
from t2i.evaluate.candidates import Candidates, to_png
from t2i.evaluate.feature_sets import FeatureSet, gather
from t2i.evaluate.figures import Figure, all_figures, derangement
from t2i.metrics.features import ExtractorProtocol

EXTRACTOR = ExtractorProtocol("small", "0" * 64, "", "")
N = 24


def feature_set(clip: np.ndarray, shift: float, ids: list[str] | None = None) -> FeatureSet:
    random = np.random.default_rng(int(shift * 10))
    features = random.normal(shift, 1, (N, 2, 6))
    return FeatureSet(ids or [f"{i:02d}" for i in range(N)], clip, features, random.normal(size=(N, 2, 5)), {})


@pytest.fixture(scope="module")
def figures() -> list[Figure]:
    captions = np.eye(N, 32, dtype=np.float32)
    noise = np.roll(captions, 1, axis=0)
    sets = {
        "best": feature_set(captions, 1.0),
        "first": feature_set(noise, 2.0),
        "real": feature_set(captions, 0.0),
        "train": feature_set(noise, 0.0, [f"train{i}" for i in range(N)]),
    }
    candidates = Candidates(sets["best"].ids, np.ones((N, 2)), captions, 0, Path())
    return all_figures(sets, candidates, EXTRACTOR, [0.0, 4.0], seed=0)


def find(figures: list[Figure], metric: str, subject: str, blur: float = 0.0) -> Figure:
    (found,) = [f for f in figures if (f.metric, f.subject, f.blur) == (metric, subject, blur)]
    return found


def test_figures_name_their_extractor_and_both_sizes(figures: list[Figure]) -> None:
    distance = find(figures, "fd_small", "best")
    assert (distance.reference, distance.n_subject, distance.n_reference) == ("real", N, N)
    assert not [f for f in figures if f.metric in ("fid", "kid", "is")]


def test_further_images_have_larger_distances_at_every_radius(figures: list[Figure]) -> None:
    for radius in (0.0, 4.0):
        values = [find(figures, "kid_small", subject, radius).value for subject in ("train", "best", "first")]
        assert values == sorted(values)
        assert values[2] > 10 * abs(values[0])


def test_shuffled_captions_cost_the_clip_figures_and_not_the_kid(figures: list[Figure]) -> None:
    assert find(figures, "clip_r@1", "best").value == 1.0
    assert find(figures, "clip_r@1", "shuffled").value == 0.0
    assert find(figures, "clip_score", "best").value == pytest.approx(2.5)
    assert find(figures, "clip_score", "shuffled").value == 0.0
    shuffled = find(figures, "kid_small", "shuffled")
    assert shuffled.value == find(figures, "kid_small", "best").value
    assert "by construction" in str(shuffled.details["note"])


def test_images_without_captions_get_no_clip_figures(figures: list[Figure]) -> None:
    assert not [f for f in figures if f.subject == "train" and f.metric.startswith("clip")]


def test_plain_prompts_get_clip_figures_only() -> None:
    captions = np.eye(3, 8, dtype=np.float32)
    images = FeatureSet(list("abc"), captions, np.zeros((3, 1, 6)), np.zeros((3, 1, 5)), {})
    found = all_figures(
        {"best": images}, Candidates(list("abc"), np.ones((3, 2)), captions, 0, Path()), EXTRACTOR, [0.0], 0
    )
    assert {f.metric for f in found} == {"clip_score", "clip_cosine", "clip_r@1", "clip_r@10"}


@pytest.mark.parametrize("n", [2, 3, 50])
def test_nothing_keeps_its_place(n: int) -> None:
    places = derangement(n, seed=1)
    assert sorted(places) == list(range(n))
    assert (places != np.arange(n)).all()


def test_gathering_sorts_by_id_whatever_the_order_of_batches() -> None:
    def batch(ids: str, name: str) -> pa.Table:
        values = np.array([[float(ord(image_id))] for image_id in ids], np.float32)
        tensors = {"clip": values, "features": values[:, None], "logits": values[:, None]}
        columns = {key: tensor_column(value) for key, value in tensors.items()}
        png = [to_png(np.zeros((2, 2, 3), np.uint8)) if image_id == "b" else b"" for image_id in ids]
        return pa.table({"set": [name] * len(ids), "id": list(ids), "png": png} | columns)

    batches = [batch("db", "best"), batch("a", "real"), batch("ca", "best")]
    sets = gather(batches)
    assert sets["best"].ids == list("abcd")
    assert sets["best"].features[:, 0, 0].tolist() == [97, 98, 99, 100]
    assert list(sets["best"].shown) == ["b"]
    assert len(sets["real"]) == 1
