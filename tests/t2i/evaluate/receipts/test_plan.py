from __future__ import annotations

from typing import Any

import pytest

from t2i.evaluate.receipts.costs import STAGES, stage_seconds, storage_bytes
from t2i.evaluate.receipts.plan import Fleet, PlanConfig, estimate, image_counts, plan, plan_text
from t2i.evaluate.receipts.stored import Receipt, UnusableReceiptError

SECONDS = {"generate": 3.6, "score": 0.36, "controls": 0.036, "extract": 0.72}


def receipt(stages: list[str]) -> Receipt:
    measured = {stage: {"seconds": SECONDS[stage] * 10, "images": 10} for stage in stages}
    storage = {name: {"bytes": 1000, "images": 10} for name in ("tokens", "pixels", "features")}
    return Receipt("/runs/receipt.json", {"circumstances": {"stages": measured, "storage": storage}})


def test_images_by_stage() -> None:
    counts = image_counts(captions=100, candidates=8, training_images=50)
    assert counts == {"generate": 800, "score": 800, "controls": 100, "extract": 100 * 2.5 + 300 + 50}


def test_hours_divide_by_devices_and_speedups_and_cost_by_speedups_alone() -> None:
    images = {"generate": 1000.0, "score": 1000.0, "controls": 0.0, "extract": 0.0}
    core = estimate(images, SECONDS, Fleet("core", 1, dict.fromkeys(STAGES, 1.0), 2.0))
    assert core.hours == pytest.approx({"generate": 1.0, "score": 0.1, "controls": 0.0, "extract": 0.0})
    assert (core.total, core.cost) == pytest.approx((1.1, 2.2))
    assert core.bottleneck == "generate"
    fast = estimate(images, SECONDS, Fleet("GPUs", 4, dict.fromkeys(STAGES, 1.0) | {"generate": 20.0}, 2.0))
    assert fast.hours["generate"] == pytest.approx(1 / 80)
    assert fast.bottleneck == "score"
    assert fast.cost == pytest.approx((1 / 20 + 0.1) * 2.0)


def test_a_plan_scales_what_the_receipt_measured() -> None:
    config = PlanConfig("receipt.json", captions=1000, candidates=4, training_images=0, gpus=[1, 8])
    made = plan(receipt(list(STAGES)), config)
    assert made.seconds == pytest.approx(SECONDS)
    assert made.storage == pytest.approx({"tokens": 400_000, "pixels": 100_000, "features": 500_000})
    cores, one, eight = made.estimates
    assert cores.total == pytest.approx((4000 * 3.96 + 1000 * 0.036 + 5000 * 0.72) / 3600 / 2)
    assert eight.total == pytest.approx(one.total / 8)
    assert eight.cost == pytest.approx(one.cost)
    shown = plan_text(made, config)
    assert "h on 8 GPUs" in shown
    assert "generate" in next(line for line in shown.splitlines() if line.startswith("bottleneck"))


def test_a_receipt_without_seconds_is_refused_by_the_stage() -> None:
    with pytest.raises(UnusableReceiptError, match="has no seconds of controls"):
        plan(receipt(["generate", "score", "extract"]), PlanConfig("receipt.json"))


def test_seconds_count_where_the_stage_ran() -> None:
    both = {"best": 4, "first": 4}
    records: list[dict[str, Any]] = [
        {"images": both, "measured": 6, "seconds": {"generate_seconds": 8.0, "extract_seconds": 3.0}},
        {"images": both, "measured": 6, "seconds": {"extract_seconds": 3.0}},  # its candidates were stored
        {"images": {"real": 5, "random_tokens": 5}, "measured": 10, "seconds": {"controls_seconds": 1.0}},
        {"images": {"train": 5}},  # of an evaluation that recorded no seconds
    ]
    assert stage_seconds(records, candidates=2) == {
        "generate": {"seconds": 8.0, "images": 8},
        "controls": {"seconds": 1.0, "images": 5},
        "extract": {"seconds": 6.0, "images": 12},
    }


def test_bytes_of_pixels_are_told_from_those_of_tokens() -> None:
    drawn = [{"ids": ["a", "b"], "bytes": 100, "pixel_bytes": 70}]
    assert storage_bytes(drawn, [{"bytes": 40, "measured": 3}], candidates=4) == {
        "tokens": {"bytes": 30, "images": 8},
        "pixels": {"bytes": 70, "images": 2},
        "features": {"bytes": 40, "images": 3},
    }
