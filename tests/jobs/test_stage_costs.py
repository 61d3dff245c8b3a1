"""Which share of drafts comes true, beside an engine whose drafts are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.prior import Prior, PriorConfig
from models.tokenizer import CaptionTokenizer
from stage_costs import came_true
from t2i.config import ROOT
from t2i.engine import Engine
from t2i.engine import runner as runner_module
from t2i.simulate.costs import PriorCosts

TOKENIZER = CaptionTokenizer.load(ROOT / "models" / "trained" / "small" / "tokenizer")
CONFIG = PriorConfig(2, 1, 8, 6, TOKENIZER.vocabulary, grid_height=3, grid_width=4, codebook_size=16)


def one_token_everywhere(_logits: Tensor, _keys: Tensor, positions: Tensor, _temperatures: Tensor) -> Tensor:
    """Every draft is right."""
    return torch.full_like(positions, 7)


def test_the_shares_give_the_steps_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "sample", one_token_everywhere)
    shares = came_true(Engine(Prior(CONFIG), 8, window=4), TOKENIZER, candidates=2, images=2)
    assert shares == [3 / 4, 3 / 4, 2 / 4]  # the steps of each image make 1, 4, 4 and 3 of its 12 tokens
    assert PriorCosts(slots=8, came_true=shares).tokens_of_step(1) == 12 / 4


def test_a_request_feels_its_slowest_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second candidate of a request draws other tokens at each step, so that no draft of its comes true."""

    def slow_second(logits: Tensor, keys: Tensor, positions: Tensor, temperatures: Tensor) -> Tensor:
        seconds = keys != keys[0]
        return torch.where(seconds, positions % 5 + 8, one_token_everywhere(logits, keys, positions, temperatures))

    monkeypatch.setattr(runner_module, "sample", slow_second)
    engine = Engine(Prior(CONFIG), 8, window=4)
    lone, felt = (came_true(engine, TOKENIZER, candidates=candidates, images=1) for candidates in (1, 2))
    assert 0 < sum(felt) < sum(lone)


def test_without_a_window_nothing_is_drafted() -> None:
    assert came_true(Engine(Prior(CONFIG), 2), TOKENIZER, candidates=1, images=1) == []
