from __future__ import annotations

import pytest

from t2i.evaluate.sweep import is_blurred, set_name, sweep_sizes


@pytest.mark.parametrize(
    ("candidates", "sizes"),
    [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8]), (512, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512])],
)
def test_sizes_double_up_to_all(candidates: int, sizes: list[int]) -> None:
    assert sweep_sizes(candidates, pruned=False) == sizes
    assert sweep_sizes(candidates, pruned=True) == [candidates]


def test_only_the_ends_are_measured_with_blur() -> None:
    assert [set_name(size, 8) for size in sweep_sizes(8, pruned=False)] == ["first", "best_of_2", "best_of_4", "best"]
    assert [is_blurred(name) for name in ("first", "best_of_2", "best", "real")] == [True, False, True, True]
