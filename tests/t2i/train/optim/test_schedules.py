from __future__ import annotations

import pytest

from t2i.train.optim.schedules import cosine_anneal, linear_warmup
from t2i.train.tasks.dvae import DVAETask, DVAETaskConfig
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig


def test_cosine_anneal_meets_its_ends_and_its_middle() -> None:
    assert cosine_anneal(0, 1.0, 0.1, 100) == pytest.approx(1.0)
    assert cosine_anneal(50, 1.0, 0.1, 100) == pytest.approx(0.55)
    assert cosine_anneal(100, 1.0, 0.1, 100) == 0.1
    assert cosine_anneal(10**9, 1.0, 0.1, 100) == 0.1
    assert cosine_anneal(0, 1.0, 0.1, 0) == 0.1


def test_warm_up_climbs_to_one() -> None:
    assert [linear_warmup(step, 4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert linear_warmup(0, 0) == 1.0


def test_the_dvaes_defaults_are_the_papers() -> None:
    task = DVAETask(DVAETaskConfig())
    assert (task.beta(0), task.beta(5_000), task.beta(10**7)) == (0.0, 6.6, 6.6)
    assert (task.tau(0), task.tau(150_000)) == (1.0, 1 / 16)
    assert task.lr(0) == pytest.approx(1e-4)
    assert task.lr(1_200_000) == 1.25e-6
    assert (task.optimizer.beta2, task.optimizer.weight_decay, task.optimizer.ema_decay) == (0.999, 1e-4, 0.999)


def test_the_priors_defaults_are_the_papers() -> None:
    task = PriorTask(PriorTaskConfig(), tokenizer="unused", dvae="unused")
    assert task.lr(0) == pytest.approx(4.5e-4 / 5_000)
    assert task.lr(5_000) == pytest.approx(4.5e-4, rel=1e-3)
    assert task.lr(430_000) == pytest.approx(4.5e-4 / 32)
    o = task.optimizer
    assert (o.beta1, o.beta2, o.weight_decay, o.clip_norm, o.ema_decay) == (0.9, 0.96, 4.5e-2, 4.0, 0.99)
