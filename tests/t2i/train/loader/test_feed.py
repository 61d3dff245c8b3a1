"""Microbatches, and what is made of them ahead of time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from t2i.train.config import TrainConfig
from t2i.train.loader.feed import Feed, InMemorySource, Microbatch
from t2i.train.noise import Noise
from t2i.train.tasks.base import Batch, Columns
from tests.t2i.train.line_task import LineTask


@contextmanager
def feed(task: LineTask, columns: Columns, rank: int = 0, world: int = 1, **settings: Any) -> Iterator[Feed]:
    config = TrainConfig(**{"steps": 5, "batch_size": 16} | settings)
    feed = Feed(task, nn.Linear(1, 1), InMemorySource(columns), config, rank, world, pin=False)
    yield feed
    feed.close()


def joined(microbatches: list[Microbatch]) -> tuple[torch.Tensor, np.ndarray]:
    """All rows and all seeds of noise."""
    rows = torch.cat([microbatch.batch["x"] for microbatch in microbatches])
    return rows, np.concatenate([microbatch.noise.seeds for microbatch in microbatches])


def test_workers_and_microbatches_divide_the_rows_and_noise_of_one(line_task: LineTask, line_columns: Columns) -> None:
    line_task.config.noise = 0.1
    with feed(line_task, line_columns) as alone:
        (whole,) = alone.microbatches(3)
    divided: list[Microbatch] = []
    for rank in range(2):
        with feed(line_task, line_columns, rank, world=2, accumulate=4) as shared:
            microbatches = shared.microbatches(3)
        assert [len(microbatch.batch["x"]) for microbatch in microbatches] == [2] * 4
        divided += microbatches
    rows, seeds = joined(divided)
    assert torch.equal(rows, whole.batch["x"])
    assert np.array_equal(seeds, whole.noise.seeds)


class SlowTask(LineTask):
    """Counts the batches it has made."""

    def batch(self, columns: Columns, rows: np.ndarray, noise: Noise | None = None) -> Batch:
        time.sleep(0.05)
        self.made = getattr(self, "made", 0) + 1
        return super().batch(columns, rows, noise)


def test_the_next_steps_are_made_while_this_one_trains(line_task: LineTask, line_columns: Columns) -> None:
    task = SlowTask(line_task.config)
    with feed(task, line_columns, batch_size=5, prefetch=2) as ahead:  # of 50 rows: no batch spans two epochs
        ahead.microbatches(0)
        assert ahead.waited > 0.04
        deadline = time.monotonic() + 10
        while task.made < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert task.made == 3, "steps 0, 1 and 2"
        ahead.microbatches(1)
        assert ahead.waited < 0.04
        ahead.microbatches(4)
        assert task.made <= 5, "nothing beyond the last step"


def test_without_prefetching_a_step_is_made_when_it_is_asked_for(line_task: LineTask, line_columns: Columns) -> None:
    task = SlowTask(line_task.config)
    with feed(task, line_columns, batch_size=5, prefetch=0) as behind:
        behind.microbatches(0)
        time.sleep(0.1)
        assert task.made == 1
