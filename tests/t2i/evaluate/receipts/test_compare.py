from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2i.evaluate.receipts.compare import (
    IncomparableReceiptsError,
    compare,
    comparison_text,
    difference_interval,
    other_settings,
)
from t2i.evaluate.receipts.stored import Receipt, read_receipt
from t2i.metrics.intervals import bootstrap_mean


def test_the_interval_of_a_difference_covers_as_often_as_those_it_is_made_of() -> None:
    # Normal means with known errors: MOVER then is the exact interval of the difference.
    a, b = (1.0, 1.0 - 1.96 * 3, 1.0 + 1.96 * 3), (2.0, 2.0 - 1.96 * 4, 2.0 + 1.96 * 4)
    assert difference_interval(a, b) == pytest.approx((1.0 - 1.96 * 5, 1.0 + 1.96 * 5))


def test_lopsided_intervals_keep_their_sides() -> None:
    low, high = difference_interval((0.0, -1.0, 2.0), (10.0, 7.0, 14.0))
    assert (low, high) == pytest.approx((10 - np.hypot(3, 2), 10 + np.hypot(4, 1)))


FIGURE = {"metric": "fid", "subject": "best", "reference": "real", "blur": 0.0, "value": 10.0}
INTERVAL = {"low": 9.0, "high": 11.0}


def receipt(**changes: Any) -> Receipt:
    """A receipt that differs from the usual one in the values under some dotted keys."""
    document: dict[str, Any] = {
        "measuring": {
            "extractor": {"name": "small", "weight_hash": "1" * 64, "preset": "tf"},
            "clip": "aaa",
            "features": "0badcafe",
            "image_size": [64, 64],
            "real_images": {"filter": "area"},
            "blur": "PIL",
        },
        "code": {"commit": "abc"},
        "packages": {"sha256": "def"},
        "circumstances": {"hardware": {"cpu": "a CPU", "gpus": []}},
        "sets": [
            {
                "name": "val",
                "captions": {"sha256": "ccc"},
                "drawing": {"candidates": 4, "seed": 0},
                "reference": {"images": "real", "n": 32},
                "images": {"real": {"merkle_root": "eee"}},
                "figures": [FIGURE | {"interval": INTERVAL}, FIGURE | {"metric": "cmmd", "interval": None}],
            }
        ],
    }
    document = copy.deepcopy(document)
    for key, value in changes.items():
        *groups, name = key.split("__")
        owner: Any = document
        for group in groups:
            owner = owner[0] if group == "set" else owner[group]
        owner[name] = value
    return Receipt("/runs/receipt.json", document)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"measuring__image_size": [32, 32]}, "measuring.image_size is [64, 64] in the one and [32, 32] in the other"),
        ({"measuring__extractor__preset": "clean"}, "measuring.extractor.preset is tf in the one and clean in the"),
        ({"measuring__real_images": {"filter": "box"}}, "measuring.real_images is "),
        ({"sets__set__captions": {"sha256": "zzz"}}, "sets.val.captions.sha256 is ccc in the one and zzz in the other"),
        ({"sets__set__images": {"real": {"merkle_root": "zzz"}}}, "sets.val.reference is eee in the one and zzz in"),
        ({"sets__set__reference": {"file": "reference.npz", "sha256": "zzz"}}, "sets.val.reference is eee in the one"),
        ({"sets__set__name": "test"}, "sets: the receipts have none of the same name"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_the_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(IncomparableReceiptsError) as refused:
        compare(receipt(), receipt(**change))
    assert str(refused.value).startswith(field)


def test_differences_and_what_else_differs() -> None:
    other = receipt(sets__set__drawing={"candidates": 8, "seed": 0}, measuring__features="other")
    other.document["sets"][0]["figures"][0]["value"] = 7.5
    found = compare(receipt(), other)
    fid, cmmd = found["val"]
    assert (fid.a, fid.b, fid.value) == (10.0, 7.5, -2.5)
    assert fid.interval is not None
    assert fid.interval[0] < -2.5 < fid.interval[1]
    assert cmmd.interval is None
    others = other_settings(receipt(), other)
    assert others == ["val.candidates: 4 | 8"]
    assert "fid of best against real" in comparison_text(found, others)


def test_figures_of_another_clip_are_left_out() -> None:
    assert [each.name for each in compare(receipt(), receipt(measuring__clip="bbb"))["val"]] == [
        "fid of best against real"
    ]


@pytest.mark.ray
def test_means_over_captions_are_compared_caption_by_caption(evaluated: Path) -> None:
    a = read_receipt(str(evaluated))
    found = {each.name: each for each in compare(a, a)["val"]}
    clip_score = found["clip_score of best against captions"]
    assert clip_score.interval == (0.0, 0.0)  # the same images: not the width of two independent samples
    assert clip_score.method == "paired bootstrap over captions"
    distance = found["fd_small of best against real"]
    assert distance.interval is not None
    assert distance.interval[0] < 0 < distance.interval[1]


def test_a_pair_that_goes_up_and_down_together_has_a_narrow_interval() -> None:
    random = np.random.default_rng(0)
    a = random.normal(size=200)
    b = a + 0.1 + 0.01 * random.normal(size=200)
    paired, (low, high) = bootstrap_mean(b - a), difference_interval(*((x.mean(), *_ends(x)) for x in (a, b)))
    assert paired.high - paired.low < 0.1 * (high - low)


def _ends(values: np.ndarray) -> tuple[float, float]:
    found = bootstrap_mean(values)
    return found.low, found.high
