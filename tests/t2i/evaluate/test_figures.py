from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from t2i.evaluate.figures import Figure, caption_figures, derangement, image_figures
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.measure import ImageCaptions
from t2i.evaluate.reference import Reference, write_reference
from t2i.metrics.features import ExtractorProtocol
from tests.t2i.evaluate.stored_sets import RADII, store_set

EXTRACTOR = ExtractorProtocol("small", "0" * 64, "", "")
N = 120
IDS = [f"{i:03d}" for i in range(N)]
CAPTIONS = np.eye(N, 128, dtype=np.float32)
NOISE = np.roll(CAPTIONS, 1, axis=0)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageSet]:
    root = tmp_path_factory.mktemp("sets")
    return {
        "best": store_set(root, "best", CAPTIONS, 1.0, IDS, CAPTIONS),
        "best_of_2": store_set(root, "best_of_2", CAPTIONS, 1.5, IDS),
        "first": store_set(root, "first", NOISE, 2.0, IDS),
        "real": store_set(root, "real", CAPTIONS, 0.0, [f"image{name}" for name in IDS]),
        "train": store_set(root, "train", NOISE, 0.0, [f"train{name}" for name in IDS]),
    }


@pytest.fixture(scope="module")
def figures(sets: dict[str, ImageSet]) -> list[Figure]:
    reference = Reference(sets["real"])
    captions = dict(zip(IDS, CAPTIONS, strict=True))
    compared = [f for images in sets.values() for r in RADII for f in image_figures(images, reference, EXTRACTOR, r)]
    return compared + [f for images in sets.values() for f in caption_figures(images, captions, seed=0)]


def find(figures: list[Figure], metric: str, subject: str, blur: float = 0.0) -> Figure:
    (found,) = [f for f in figures if (f.metric, f.subject, f.blur) == (metric, subject, blur)]
    return found


def test_figures_name_their_extractor_and_both_sizes(figures: list[Figure]) -> None:
    distance = find(figures, "fd_small", "best")
    assert (distance.reference, distance.n_subject, distance.n_reference) == ("real", N, N)
    assert not [f for f in figures if f.metric in ("fid", "kid", "is")]


def test_an_extractor_without_classes_gives_distances_and_no_inception_score(tmp_path: Path) -> None:
    drawn, real = (store_set(tmp_path, name, CAPTIONS, 1.0, IDS, classes=0) for name in ("best", "real"))
    metrics = {figure.metric for figure in image_figures(drawn, Reference(real), EXTRACTOR, 0.0)}
    assert {"fd_small", "kid_small"} <= metrics
    assert not {metric for metric in metrics if metric.startswith("is")}


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


def test_what_takes_long_is_measured_of_the_drawn_images_without_blur(figures: list[Figure]) -> None:
    subjects = {f.metric: {(g.subject, g.blur) for g in figures if g.metric == f.metric} for f in figures}
    assert subjects["fd_infinity_small"] == {("best", 0.0)}
    assert subjects["precision"] == subjects["mind"] == {(name, 0.0) for name in ("best", "first", "train")}
    assert ("best_of_2", 0.0) in subjects["fd_small"]
    assert ("best_of_2", 0.0) not in subjects["kid_small"]


def test_every_mean_has_an_interval_around_it(figures: list[Figure]) -> None:
    for figure in figures:
        if figure.interval is not None:
            assert figure.interval.low <= figure.value <= figure.interval.high, figure.metric
    with_interval = {f.metric for f in figures if f.interval and f.subject == "best"}
    assert {"fd_small", "kid_small", "is_small", "precision", "clip_score", "clip_r@1", "cmmd"} <= with_interval


def test_a_reference_file_gives_the_distances_of_statistics_alone(
    sets: dict[str, ImageSet], figures: list[Figure], tmp_path: Path
) -> None:
    write_reference(sets["real"], EXTRACTOR, RADII, {}, f"{tmp_path}/reference.npz")
    found = image_figures(sets["best"], Reference(None, f"{tmp_path}/reference.npz"), EXTRACTOR, 4.0)
    assert {f.metric for f in found} == {"fd_small", "is_small"}
    assert find(found, "fd_small", "best", 4.0).value == pytest.approx(find(figures, "fd_small", "best", 4.0).value)
    without_blur = image_figures(sets["best"], Reference(None, f"{tmp_path}/reference.npz"), EXTRACTOR, 0.0)
    assert "fd_infinity_small" in {f.metric for f in without_blur}


def test_captions_are_found_by_their_images_the_first_of_several(sets: dict[str, ImageSet]) -> None:
    drawn = sets["best"].folder
    image_ids = ["imagex", "imagex", *(f"image{name}" for name in IDS[2:])]
    captions = ImageCaptions(drawn, IDS, image_ids)
    assert np.array_equal(captions.of(sets["best"])["001"], CAPTIONS[1])
    of_real = captions.of(sets["real"])
    assert np.array_equal(of_real["imagex"], CAPTIONS[0])
    assert np.array_equal(of_real["image005"], CAPTIONS[5])


def test_plain_prompts_get_caption_figures_only(sets: dict[str, ImageSet]) -> None:
    captions = dict(zip(IDS, CAPTIONS, strict=True))
    found = caption_figures(sets["best"], captions, seed=0)
    assert {f.metric for f in found} == {"clip_score", "clip_cosine", "clip_r@1", "clip_r@10", "clip_r_precision"}
    assert caption_figures(sets["train"], captions, seed=0) == []


@pytest.mark.parametrize("n", [2, 3, 50])
def test_nothing_keeps_its_place(n: int) -> None:
    places = derangement(n, seed=1)
    assert sorted(places) == list(range(n))
    assert (places != np.arange(n)).all()
