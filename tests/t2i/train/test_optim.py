from __future__ import annotations

import pytest
import torch
from torch import nn

from models.checkpoint import load_tensors, save_tensors
from t2i.train.optim import EMA, OptimizerConfig, build_optimizer, load_optimizer_tensors, optimizer_tensors, set_lr


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


def test_the_optimizers_state_survives_a_round_trip_through_a_file(tmp_path):
    model = tiny_model()
    optimizer = build_optimizer(model, OptimizerConfig())
    step(model, optimizer)
    save_tensors(tmp_path / "optimizer.safetensors", optimizer_tensors(model, optimizer))
    twin = tiny_model()
    twin.load_state_dict(model.state_dict())
    resumed = build_optimizer(twin, OptimizerConfig())
    load_optimizer_tensors(twin, resumed, load_tensors(tmp_path / "optimizer.safetensors"))
    step(model, optimizer)
    step(twin, resumed)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


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


def test_moments_get_the_layout_of_their_parameter_back(tmp_path):
    models = [nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [build_optimizer(model, OptimizerConfig()) for model in models]
    images = torch.randn(2, 3, 8, 8)

    def conv_step(which: int) -> None:
        optimizers[which].zero_grad()
        models[which](images).square().sum().backward()
        set_lr(optimizers[which], 0.1)
        optimizers[which].step()

    conv_step(0)
    save_tensors(tmp_path / "optimizer.safetensors", optimizer_tensors(models[0], optimizers[0]))
    models[1].load_state_dict(models[0].state_dict())
    load_optimizer_tensors(models[1], optimizers[1], load_tensors(tmp_path / "optimizer.safetensors"))
    conv_step(0)
    conv_step(1)
    assert torch.equal(models[0].weight, models[1].weight)
