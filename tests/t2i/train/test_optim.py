from __future__ import annotations

import pytest
import torch
from torch import nn

from t2i.train.optim import EMA, OptimizerConfig, build_optimizer, optimizer_tensors, set_lr


def tiny_model() -> nn.Module:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[1].weight.requires_grad_(False)
    return model


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.tensor([0, 3])).square().sum().backward()
    set_lr(optimizer, 0.1)
    optimizer.step()


def test_only_trainable_matrices_decay():
    model = tiny_model()
    decayed, plain = build_optimizer(model, OptimizerConfig(weight_decay=0.5)).param_groups
    assert [id(p) for p in decayed["params"]] == [id(model[3].weight)]
    assert decayed["weight_decay"] == 0.5
    assert plain["weight_decay"] == 0.0
    names = {name for name, p in model.named_parameters() if any(p is q for q in plain["params"])}
    assert names == {"0.weight", "1.bias", "2.weight", "2.bias", "3.bias"}


def test_the_average_moves_by_one_minus_decay():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = EMA(model, decay=0.75)
    nn.init.ones_(model.weight)
    ema.update(step=1000)
    assert ema.model.weight.item() == pytest.approx(0.25)
    ema.update(step=1000)
    assert ema.model.weight.item() == pytest.approx(0.25 + 0.75 * 0.25)


def test_a_young_average_follows_closely():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = EMA(model, decay=0.999)
    nn.init.ones_(model.weight)
    ema.update(step=0)
    assert ema.model.weight.item() == pytest.approx(0.9)


def test_the_average_copies_buffers_and_needs_no_gradient():
    model = nn.BatchNorm1d(2)
    ema = EMA(model, decay=0.9)
    model(torch.randn(8, 2))
    ema.update(step=0)
    assert torch.equal(ema.model.running_mean, model.running_mean)
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert not ema.model.training


def test_moments_stand_from_the_beginning_and_are_zero():
    model = tiny_model()
    optimizer = build_optimizer(model, OptimizerConfig())
    before = [parameter.clone() for parameter in model.parameters()]
    tensors = optimizer_tensors(model, optimizer)
    assert set(tensors) == {
        f"{name}/{moment}"
        for name in ("0.weight", "1.bias", "2.weight", "2.bias", "3.weight", "3.bias")
        for moment in ("step", "exp_avg", "exp_avg_sq")
    }
    assert not any(tensor.any() for tensor in tensors.values())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_first_step_is_that_of_an_optimizer_without_a_past():
    model, twin = tiny_model(), tiny_model()
    twin.load_state_dict(model.state_dict())
    ours = build_optimizer(model, OptimizerConfig(weight_decay=0.0))
    theirs = torch.optim.AdamW([p for p in twin.parameters() if p.requires_grad], weight_decay=0.0, fused=True)
    step(model, ours)
    step(twin, theirs)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
