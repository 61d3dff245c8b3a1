from __future__ import annotations

import numpy as np
import pytest

from t2i.train.loader.sampler import EpochSampler


def stream(sampler: EpochSampler, steps: int, world: int = 1) -> list[tuple[tuple[int, ...], int]]:
    """(window, row in it) of all rows that the workers take, in order."""
    return [
        (piece.window, int(row))
        for step in range(steps)
        for rank in range(world)
        for piece in sampler.rows(step, rank, world)
        for row in piece.rows
    ]


@pytest.mark.parametrize(("n", "batch"), [(50, 16), (48, 16), (5, 16)])
def test_every_row_comes_exactly_once_in_each_epoch(n: int, batch: int) -> None:
    taken = stream(EpochSampler([n], batch, seed=1), 3 * n)
    for epoch in range(3 * batch):
        assert sorted(row for _, row in taken[epoch * n : (epoch + 1) * n]) == list(range(n))


@pytest.mark.parametrize("window_rows", [1, 10, 17, 100])
def test_every_row_of_every_part_comes_exactly_once_in_each_epoch(window_rows: int) -> None:
    parts = [7, 3, 9, 1, 5]
    taken = stream(EpochSampler(parts, 4, seed=1, window_rows=window_rows), 25)
    rows = [[(part, row) for part in range(5) for row in range(parts[part])] for _ in range(4)]
    found = [place(parts, window, row) for window, row in taken]
    assert [sorted(found[epoch * 25 : (epoch + 1) * 25]) for epoch in range(4)] == rows
    assert found[:25] != found[25:50]


def place(parts: list[int], window: tuple[int, ...], row: int) -> tuple[int, int]:
    """The part and the row in it of a row of a window."""
    for part in window:
        if row < parts[part]:
            return part, row
        row -= parts[part]
    raise IndexError(row)


@pytest.mark.parametrize("world", [2, 4, 8])
def test_workers_share_the_batch_of_one(world: int) -> None:
    alone, shared = (EpochSampler([30, 20], 16, seed=1, window_rows=20) for _ in range(2))
    assert stream(shared, 10, world) == stream(alone, 10)


def test_order_depends_on_seed_and_epoch() -> None:
    sampler = EpochSampler([64], 64, seed=1)
    first, second = (sampler.rows(step)[0].rows for step in (0, 1))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, EpochSampler([64], 64, seed=2).rows(0)[0].rows)


def test_a_step_can_be_asked_for_at_any_time() -> None:
    sampler = EpochSampler([30, 20, 10], 16, seed=1, window_rows=20)
    later = [sampler.rows(step) for step in (9, 2, 30, 0)]
    for rows, step in zip(later, (9, 2, 30, 0), strict=True):
        fresh = EpochSampler([30, 20, 10], 16, seed=1, window_rows=20).rows(step)
        assert [(r.window, r.rows.tolist()) for r in rows] == [(r.window, r.rows.tolist()) for r in fresh]


def test_the_window_to_make_ready_is_the_next_one_that_is_taken() -> None:
    sampler = EpochSampler([8, 8, 8], 4, seed=1, window_rows=8)
    windows = [sampler.rows(step)[0].window for step in range(14)]
    assert [sampler.next_window(step) for step in range(12)] == [windows[2 * (step // 2) + 2] for step in range(12)]
