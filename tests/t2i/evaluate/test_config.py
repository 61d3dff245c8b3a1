from __future__ import annotations

from typing import Any

import pytest

from t2i.evaluate.config import CaptionSet, EvaluateConfig, TrainingSource


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dtype": "half"}, "dtype is 'half': use float32 or bfloat16"),
        ({"training_images": 3}, "training_images is 3"),
        ({"blur_radii": [1.0]}, r"blur_radii is \[1.0\]"),
        ({"blur_radii": []}, "blur_radii is"),
        ({"sets": [CaptionSet("x"), CaptionSet("x")]}, "sets: give"),
        ({"sets": []}, "sets: give"),
    ],
)
def test_refuses_what_cannot_be_evaluated(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(**values)


@pytest.mark.parametrize("field", [{"limit": 5}, {"format": "coco"}, {"images": "folder"}])
def test_training_images_are_not_described_without_their_path(field: dict[str, Any]) -> None:
    TrainingSource("pairs.parquet", **field)
    with pytest.raises(ValueError, match=r"^training_source\.path is empty: give it as well"):
        TrainingSource(**field)


@pytest.mark.parametrize("name", ["../x", "", "training"])
def test_a_set_name_must_name_a_folder_of_its_own(name: str) -> None:
    with pytest.raises(ValueError, match=r"sets\.name"):
        CaptionSet(name)
