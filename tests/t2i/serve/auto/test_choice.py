"""Which measured settings are chosen, from tables made by hand."""

from __future__ import annotations

import pytest

from t2i.serve.auto.choice import LATENCY_FACTOR, EngineSettings, Timing, choose, table


def timing(milliseconds: float, slots: int, dtype: str = "float32", threads: int = 1) -> Timing:
    return Timing(EngineSettings(dtype, slots, threads), milliseconds / 1000)


def test_the_best_throughput_within_the_latency_factor() -> None:
    steps = {4: 10.0, 16: 15.0, 64: 10 * LATENCY_FACTOR, 128: 10 * LATENCY_FACTOR + 1}
    assert choose([timing(milliseconds, slots) for slots, milliseconds in steps.items()]).slots == 64


def test_the_fastest_step_of_all_is_what_others_are_compared_with() -> None:
    assert choose([timing(4.0, 4), timing(20.0, 64, threads=2), timing(10.0, 16, threads=2)]).slots == 16


def test_of_equals_the_trained_dtype_then_the_shorter_step() -> None:
    equal = [timing(19.5, 64, "bfloat16"), timing(20.0, 64), timing(10.5, 32)]
    assert choose(equal) == EngineSettings("float32", 32, 1)


def test_a_dtype_that_is_clearly_faster_is_taken() -> None:
    assert choose([timing(20.0, 64), timing(15.0, 64, "bfloat16")]).dtype == "bfloat16"


def test_threads_that_are_slower_are_not_taken() -> None:
    assert choose([timing(20.0, 16, threads=1), timing(30.0, 16, threads=2)]).threads == 1


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_measuring_does_not_matter(order: int) -> None:
    timings = [timing(10.0 + slots / 4, slots, dtype) for slots in (4, 16, 64) for dtype in ("bfloat16", "float32")]
    assert choose(timings[::order]) == EngineSettings("float32", 64, 1)


def test_the_table_marks_what_is_chosen() -> None:
    timings = [timing(10.0, 4), timing(12.5, 16)]
    assert [line.split() for line in table(timings, choose(timings)).splitlines()] == [
        ["dtype", "slots", "threads", "ms", "a", "step", "tokens/s"],
        ["float32", "4", "1", "10.0", "400"],
        ["float32", "16", "1", "12.5", "1280", "<-", "chosen"],
    ]
