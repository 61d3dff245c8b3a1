"""What every task says of itself."""

from __future__ import annotations

import pytest

from models.errors import UserError
from t2i.train.config import TrainConfig
from t2i.train.tasks.base import Headline, Task
from t2i.train.tasks.clip import CLIPTask, CLIPTaskConfig
from t2i.train.tasks.dvae import DVAETask, DVAETaskConfig
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig

PRIOR = PriorTask(PriorTaskConfig(), tokenizer="", dvae="")
DVAE = DVAETask(DVAETaskConfig())
CLIP = CLIPTask(CLIPTaskConfig(), image_size=32)


@pytest.mark.parametrize(
    ("task", "metrics", "score"),
    [
        (PRIOR, {"nats_per_image_token": 3.5, "nats_per_text_token": 9.0}, 3.5),
        (DVAE, {"elb": -0.25, "psnr": 20.0}, 0.25),
        (CLIP, {"text_to_image_r1": 0.75, "image_to_text_r1": 0.5}, -0.75),
    ],
    ids=["prior", "dvae", "clip"],
)
def test_the_best_checkpoint_has_the_lowest_score(task: Task, metrics: dict[str, float], score: float) -> None:
    assert task.score(metrics) == score


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        (PRIOR, Headline("nats_per_image_token", higher_is_better=False)),
        (DVAE, Headline("psnr", higher_is_better=True)),
        (CLIP, Headline("image_to_text_r1", higher_is_better=True)),
    ],
    ids=["prior", "dvae", "clip"],
)
def test_each_task_says_what_is_watched_for_overfitting(task: Task, metric: Headline) -> None:
    assert task.overfitting_metric == metric


def test_a_loss_that_compares_all_rows_is_not_divided() -> None:
    config = TrainConfig(batch_size=4, accumulate=2)
    DVAE.check(config)
    with pytest.raises(UserError, match=r"train\.accumulate is 2: use 1"):
        CLIP.check(config)
