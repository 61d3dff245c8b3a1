"""Bounds on a GPU beside what is known of them, and what the engine really keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.presets import PRESETS
from models.prior import Prior, PriorConfig
from models.prior.accounting import mean_image_keys
from t2i.engine import Engine
from t2i.simulate.gpus import (
    AT_THE_BOUND,
    GPU,
    KNOWN,
    ModelWork,
    PriorWork,
    Reached,
    decode_flops,
    fits,
    most_slots,
    prior_costs,
    stage_costs,
    step_seconds,
)

SMALL = PriorConfig(
    layers=6, heads=2, head_width=8, text_length=8, text_vocabulary=32, grid_height=6, grid_width=6, codebook_size=16
)
H200 = next(gpu for gpu in KNOWN if gpu.name == "H200")


@pytest.fixture(scope="module")
def work() -> PriorWork:
    return PriorWork.of(PRESETS["1b"].prior)


def test_what_is_kept_and_read_is_what_the_engine_keeps_and_its_masks_show() -> None:
    work, prior = PriorWork.of(SMALL), Prior(SMALL).eval()
    more = Engine(prior, 5).cache_bytes - Engine(prior, 2).cache_bytes
    assert more == 3 * 4 * work.kept_values  # float32
    keys = sum(mean_image_keys(SMALL, layer) for layer in range(SMALL.layers))
    assert work.read_values == pytest.approx(2 * SMALL.width * keys)
    assert work.parameters == sum(tensor.numel() for tensor in prior.parameters())


def test_an_h200_makes_at_most_what_its_arithmetic_allows(work: PriorWork) -> None:
    """512 candidates of one caption of 1.3 B parameters are bound by arithmetic: N tokens of so many FLOPs."""
    images = 512 / step_seconds(work, 512, 1, H200, AT_THE_BOUND) / 1024
    assert images == pytest.approx(0.8 * 989e12 / (1024 * work.token_flops))
    assert images == pytest.approx(308, rel=0.02)


def test_few_slots_are_bound_by_the_weights(work: PriorWork) -> None:
    seconds = step_seconds(work, 1, 0, H200, AT_THE_BOUND)
    assert seconds == pytest.approx(2 * work.weights / (0.9 * 4.8e12), rel=0.01)
    assert step_seconds(work, 1, 0, H200, Reached()) == pytest.approx(seconds / 0.27)


def test_decoding_is_as_much_arithmetic_as_the_benchmark_counts() -> None:
    assert decode_flops(PRESETS["1b"]) == pytest.approx(258e9, rel=0.01)


def test_slots_are_those_that_the_service_would_choose(work: PriorWork) -> None:
    chosen = {gpu.name: prior_costs(work, gpu, Reached(), 8).slots for gpu in KNOWN}
    assert chosen["L4"] < chosen["H100"] < chosen["H200"]
    free = 1e9 * H200.memory_gb - 2 * work.parameters
    assert 2 * chosen["H200"] * work.kept_values <= free / 8 < 2 * 2 * chosen["H200"] * work.kept_values
    assert most_slots(work, H200) == 512


def test_a_model_that_is_too_large_is_told(work: PriorWork) -> None:
    assert fits(work, KNOWN[0])
    assert not fits(PriorWork.of(PRESETS["12b"].prior), KNOWN[0])


def test_a_faster_gpu_has_cheaper_stages() -> None:
    work = ModelWork.of(replace(PRESETS["small"]))
    slow, fast = (
        stage_costs(work, GPU("any", 80, tb_s, tflop_s, 1.0), Reached(), 8) for tb_s, tflop_s in ((1, 100), (3, 300))
    )
    assert slow.prior.image_s(8) / slow.prior.slots > 2 * fast.prior.image_s(8) / fast.prior.slots
    assert slow.decoder.image_s == pytest.approx(3 * fast.decoder.image_s)
    assert slow.reranker.image_s == pytest.approx(3 * fast.reranker.image_s)
