from __future__ import annotations

from typing import Any

import pytest

from t2i.metrics.cautions import cautions


def test_nothing_is_said_of_many_images_of_one_kind() -> None:
    sources: dict[str, Any] = {"generated_jpeg": False, "reference_jpeg": False, "reference_name": "coco2014-val30k"}
    assert cautions(30_000, 30_000, 2048, kid_subset=1000, splits=10, **sources) == []


@pytest.mark.parametrize(
    ("n", "m", "options", "words"),
    [
        (300, 300, {}, "300 images for 2048 features"),
        (5000, 5000, {}, "biased upwards"),
        (30_000, 40_504, {}, "30000 and 40504 images"),
        (10_000, 10_000, {"kid_subset": 6000}, "more than half of 10000"),
        (20_000, 20_000, {"splits": 25}, "800 images in each of 25 parts"),
        (10_000, 10_000, {"generated_jpeg": False, "reference_jpeg": True}, "Only the reference images"),
        (10_000, 10_000, {"generated_jpeg": True, "reference_jpeg": False}, "Only the generated images"),
        (10_000, 5_000, {"reference_name": "coco2017-val"}, "COCO 2017's validation set"),
    ],
)
def test_each_reason_is_one_sentence(n: int, m: int, options: dict, words: str) -> None:
    said = cautions(n, m, 2048, **options)
    assert [sentence for sentence in said if words in sentence]
    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in said)


def test_what_is_not_known_of_files_is_not_claimed() -> None:
    assert cautions(10_000, 10_000, 2048, generated_jpeg=False, reference_jpeg=None) == []
