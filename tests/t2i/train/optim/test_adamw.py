from __future__ import annotations

import math
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from models.errors import UserError
from t2i.train.optim.adamw import (
    OptimizerConfig,
    build_optimizer,
    clip_gradients,
    optimizer_tensors,
    set_lr,
)


def tiny_model() -> nn.Sequential:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model.get_parameter("1.weight").requires_grad_(False)
    return model


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.tensor([0, 3])).square().sum().backward()
    set_lr(optimizer, 0.1)
    optimizer.step()


def test_only_trainable_matrices_decay() -> None:
    model = tiny_model()
    decayed, plain = build_optimizer(model, OptimizerConfig(weight_decay=0.5)).param_groups
    assert [id(p) for p in decayed["params"]] == [id(model.get_parameter("3.weight"))]
    assert decayed["weight_decay"] == 0.5
    assert plain["weight_decay"] == 0.0
    names = {name for name, p in model.named_parameters() if any(p is q for q in plain["params"])}
    assert names == {"0.weight", "1.bias", "2.weight", "2.bias", "3.bias"}


def test_moments_stand_from_the_beginning_and_are_zero() -> None:
    model = tiny_model()
    before = [parameter.clone() for parameter in model.parameters()]
    tensors = optimizer_tensors(model, build_optimizer(model, OptimizerConfig()))
    assert set(tensors) == {
        f"{name}/{moment}"
        for name in ("0.weight", "1.bias", "2.weight", "2.bias", "3.weight", "3.bias")
        for moment in ("step", "exp_avg", "exp_avg_sq")
    }
    assert not any(tensor.any() for tensor in tensors.values())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_first_step_is_that_of_an_optimizer_without_a_past() -> None:
    model, twin = tiny_model(), tiny_model()
    twin.load_state_dict(model.state_dict())
    ours = build_optimizer(model, OptimizerConfig(weight_decay=0.0))
    theirs = torch.optim.AdamW([p for p in twin.parameters() if p.requires_grad], weight_decay=0.0, fused=True)
    step(model, ours)
    step(twin, theirs)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_moments_have_the_layout_of_their_parameter() -> None:
    """The fused AdamW walks both in the order of their storage."""
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    tensors = optimizer_tensors(model, build_optimizer(model, OptimizerConfig()))
    assert tensors["weight/exp_avg"].stride() == model.weight.stride()


def with_gradients(*gradients: list[float] | None) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(2)) for _ in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor(gradient)
    return parameters


def gradient(parameter: nn.Parameter) -> list[float]:
    assert parameter.grad is not None
    return list(parameter.grad.tolist())


def test_clipping_scales_all_gradients_together_and_returns_the_norm_before() -> None:
    parameters = with_gradients([3.0, 0.0], None, [0.0, 4.0])
    norm = clip_gradients(parameters, 1.0)
    assert norm.item() == 5.0
    assert norm.shape == ()
    assert gradient(parameters[0]) == pytest.approx([0.6, 0])
    assert gradient(parameters[2]) == pytest.approx([0, 0.8])


@pytest.mark.parametrize("limit", [0.0, 6.0])
def test_gradients_within_the_limit_or_without_one_stay(limit: float) -> None:
    parameters = with_gradients([3.0, 4.0])
    assert clip_gradients(parameters, limit).item() == 5.0
    assert gradient(parameters[0]) == [3.0, 4.0]


def test_a_norm_of_no_gradients_is_zero() -> None:
    assert clip_gradients(iter(with_gradients(None, None)), 1.0).item() == 0.0


def test_the_norm_of_a_non_finite_gradient_says_so() -> None:
    assert not math.isfinite(clip_gradients(with_gradients([1.0, math.nan]), 0.0).item())


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"task\.optimizer\.kind is 'sgd'"):
        OptimizerConfig(kind="sgd")


def test_8_bits_without_torchao_are_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(UserError, match=r"^task.optimizer.kind is adamw8bit but torchao is not installed: pip install"):
        build_optimizer(tiny_model(), OptimizerConfig(kind="adamw8bit"))


@pytest.fixture
def _eager() -> Iterator[None]:
    """torchao compiles its step, minutes of C++ on a busy CPU; the same function runs without."""
    with torch.compiler.set_stance("force_eager"):
        yield


def wide_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64), nn.LayerNorm(64))


def wide_step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> float:
    optimizer.zero_grad()
    x = torch.randn(16, 64, generator=torch.Generator().manual_seed(seed))
    loss = (model(x) - x.roll(1, dims=1)).square().mean()
    loss.backward()
    set_lr(optimizer, 0.01 / (1 + seed))
    optimizer.step()
    return loss.item()


def state_bytes(tensors: dict[str, torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


@pytest.mark.slow
@pytest.mark.usefixtures("_eager")
def test_8_bit_moments_train_in_a_quarter_of_the_memory_and_resume_bit_for_bit() -> None:
    models = {kind: wide_model() for kind in ("adamw", "adamw8bit")}
    optimizers = {kind: build_optimizer(model, OptimizerConfig(kind=kind)) for kind, model in models.items()}
    losses = {kind: [wide_step(models[kind], optimizers[kind], seed) for seed in range(8)] for kind in models}
    assert losses["adamw8bit"] == pytest.approx(losses["adamw"], rel=0.02)

    tensors = {kind: optimizer_tensors(models[kind], optimizers[kind]) for kind in models}
    assert {type(tensor) for tensor in tensors["adamw8bit"].values()} == {torch.Tensor}
    assert state_bytes(tensors["adamw8bit"]) < 0.32 * state_bytes(tensors["adamw"])

    model, optimizer, twin = models["adamw8bit"], optimizers["adamw8bit"], wide_model()
    saved = {name: tensor.clone() for name, tensor in tensors["adamw8bit"].items()}
    twin.load_state_dict(model.state_dict())
    resumed = build_optimizer(twin, OptimizerConfig(kind="adamw8bit"))
    for name, tensor in optimizer_tensors(twin, resumed).items():
        tensor.copy_(saved[name])
    for seed in range(8, 11):
        assert wide_step(model, optimizer, seed) == wide_step(twin, resumed, seed)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
