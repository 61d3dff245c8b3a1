"""Each trouble as a synthetic curve, and three whole runs of the tiny preset (2 cores, docs/log.md) as normal ones."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from t2i.train.config import TrainConfig
from t2i.train.monitor import advice as module
from t2i.train.monitor.advice import CALM_CHECKS, Advice
from t2i.train.tasks.clip import CLIPTask, CLIPTaskConfig
from t2i.train.tasks.dvae import DVAETask, DVAETaskConfig
from t2i.train.tasks.prior import PriorTask, PriorTaskConfig

CURVES = json.loads((Path(__file__).parent / "curves.json").read_text())
METRICS = {
    "prior": PriorTask.headline,
    "dvae": DVAETask.overfitting_metric,
    "clip": CLIPTask.overfitting_metric,
}
RANDOM = np.random.default_rng(0)


def advice_on(task: str = "prior", scale_floor: float | None = None) -> Advice:
    return Advice(METRICS[task], scale_floor)


def said(advice: Advice, lines: Iterable[Mapping[str, float]]) -> list[str]:
    return [sentence for values in lines for sentence in advice.training(values)]


def rows(columns: Mapping[str, list[float]]) -> list[dict[str, float]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def losses(values: Iterable[float]) -> list[dict[str, float]]:
    return [{"loss": float(value)} for value in values]


def falling(n: int, noise: float = 0.05) -> np.ndarray:
    return 2 + 3 * np.exp(-np.arange(n) / 20) + noise * RANDOM.normal(size=n)


@pytest.mark.parametrize("task", CURVES)
def test_our_own_runs_are_left_in_peace(task: str) -> None:
    advice, curves = advice_on(task), CURVES[task]
    lines, validations = rows({name: curves[name] for name in ("loss", "gradient_norm")}), rows(curves["validation"])
    half = len(lines) // 2
    for part, metrics in zip((lines[:half], lines[half:]), validations, strict=True):
        assert not said(advice, part)
        assert not advice.validation(metrics)


@pytest.mark.parametrize("begun", [0, 60, 150, 200])
@pytest.mark.parametrize("task", CURVES)
def test_a_resumed_run_which_remembers_nothing_is_left_in_peace(task: str, begun: int) -> None:
    assert not said(advice_on(), losses(CURVES[task]["loss"][begun:]))


def test_divergence_is_said_once_though_it_lasts() -> None:
    curve = np.concatenate([falling(100), np.linspace(2, 6, 50)])
    (sentence,) = said(advice_on(), losses(curve))
    assert "diverging" in sentence
    assert "task.warmup_steps" in sentence


def test_a_loss_below_zero_diverges_as_well() -> None:
    assert len(said(advice_on(), losses(np.concatenate([falling(100) - 5, np.linspace(-3, 0, 30)])))) == 1


def test_one_bad_batch_is_worth_a_word_only_if_all_is_lost() -> None:
    curve = falling(100)
    curve[[60, 80]] = 4.0
    assert not said(advice_on(), losses(curve))
    curve[80] = 8.0
    (sentence,) = said(advice_on(), losses(curve))
    assert "all at once" in sentence


def test_trouble_that_comes_back_after_a_calm_is_said_again() -> None:
    trouble, calm = losses([math.nan] * 3), losses([1.0] * CALM_CHECKS)
    assert len(said(advice_on(), [*trouble, *calm[:-1], *trouble])) == 1
    assert len(said(advice_on(), [*trouble, *calm, *trouble])) == 2


def test_a_gradient_far_beyond_the_usual_ones() -> None:
    norms = [{"gradient_norm": norm} for norm in [*np.exp(RANDOM.normal(size=60) * 0.5), 40.0]]
    (sentence,) = said(advice_on(), norms)
    assert "task.optimizer.clip_norm" in sentence
    assert not said(advice_on(), [{"gradient_norm": 1.02**step} for step in range(300)])


def test_waiting_for_data() -> None:
    assert not said(advice_on(), [{"data_wait_share": share} for share in [0.9, 0.0, 0.0, 0.05, 0.0] * 4])
    (sentence,) = said(advice_on(), [{"data_wait_share": 0.3}] * 20)
    assert sentence.startswith("30% of the time")
    assert "train.prefetch" in sentence


def test_mfu_that_falls_and_mfu_that_never_was() -> None:
    assert not said(advice_on(), [{"mfu": 0.3 + 0.05 * (step % 2)} for step in range(40)])
    (slower,) = said(advice_on(), [{"mfu": mfu} for mfu in [0.3] * 20 + [0.1] * 20])
    assert "MFU 10.0%, 30.0% before" in slower
    (low,) = said(advice_on(), [{"mfu": 0.01}] * 20)
    assert "train.batch_size" in low
    assert len(said(advice_on(), [{"mfu": 0.01, "data_wait_share": 0.9}] * 20)) == 1  # the data are to blame


def test_gradient_scales_at_their_floor() -> None:
    advice = advice_on(scale_floor=128.0)
    assert not said(advice, [{"loss": 1.0}, {"scale/block_00_mlp": 8192.0}])
    (sentence,) = said(advice, [{f"scale/block_{block:02}_mlp": 128.0 for block in range(5)}])
    assert "block_00_mlp, block_01_mlp, block_02_mlp and 2 more" in sentence


@pytest.mark.parametrize("used", [[(0.02, 9.0)], [(0.5, 60.0), (0.3, 25.0)]])
def test_codebook_collapse(used: list[tuple[float, float]]) -> None:
    advice = advice_on()
    *before, (sentence,) = [advice.validation({"codes_used": u, "perplexity": p}) for u, p in used]
    assert not any(before)
    assert all(field in sentence for field in ("task.beta_start", "task.tau_end", "task.lr_start"))


def overfit(validation: list[float], training: list[float]) -> list[str]:
    advice, news = advice_on(), []
    for metric, loss in zip(validation, training, strict=True):
        advice.training({"loss": loss})
        news += advice.validation({"nats_per_image_token": metric})
    return news


def test_validation_that_rises_while_training_falls() -> None:
    (sentence,) = overfit([3.0, 2.5, 2.6, 2.7, 2.8, 2.9], [3.0, 2.4, 2.2, 2.0, 1.8, 1.6])
    assert "2.8 on validation, 2.5 at best" in sentence
    assert not overfit([3.0, 2.5, 2.6, 2.7, 2.8], [3.0, 2.4, 2.5, 2.6, 2.7])  # both rise: not that trouble
    assert not overfit([3.0, 2.5, 2.51, 2.52, 2.51], [3.0, 2.4, 2.2, 2.0, 1.8])


def test_advice_names_fields_that_there_are() -> None:
    named = set(re.findall(r"(?<!t2i\.)\b(?:train|task)(?:\.[a-z_]+)+", Path(module.__file__).read_text()))
    jobs = [
        SimpleNamespace(train=TrainConfig(), task=task()) for task in (PriorTaskConfig, DVAETaskConfig, CLIPTaskConfig)
    ]
    assert {"train.prefetch", "task.tau_end", "task.optimizer.clip_norm"} <= named
    assert [name for name in named if not any(has(job, name) for job in jobs)] == []


def has(config: object, name: str) -> bool:
    for field in name.split("."):
        if not hasattr(config, field):
            return False
        config = getattr(config, field)
    return True
