from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from models.checkpoint import load_tensors, save_tensors
from t2i.train.optim.ema import EMA


def test_the_average_moves_by_one_minus_decay() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = EMA(model, decay=0.75)
    nn.init.ones_(model.weight)
    ema.update(step=1000)
    assert ema.model.get_parameter("weight").item() == pytest.approx(0.25)
    ema.update(step=1000)
    assert ema.model.get_parameter("weight").item() == pytest.approx(0.25 + 0.75 * 0.25)


def test_a_young_average_follows_closely() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = EMA(model, decay=0.999)
    nn.init.ones_(model.weight)
    ema.update(step=0)
    assert ema.model.get_parameter("weight").item() == pytest.approx(0.9)


def test_the_average_copies_buffers_and_needs_no_gradient() -> None:
    model = nn.BatchNorm1d(2)
    ema = EMA(model, decay=0.9)
    model(torch.randn(8, 2))
    ema.update(step=0)
    assert torch.equal(ema.model.get_buffer("running_mean"), model.get_buffer("running_mean"))
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert not ema.model.training


def drift(model: nn.Module, step: int) -> None:
    """A stand-in for an optimizer's step."""
    random = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random).to(parameter.device))


def before_lerp(ema: EMA, act: Callable[[], None]) -> None:
    """Have the thread of ``ema`` call ``act`` before it moves the average."""
    lerp = ema._lerp

    def act_and_lerp(weight: float) -> None:
        act()
        lerp(weight)

    ema._lerp = act_and_lerp  # type: ignore[method-assign]


def averaged_layer(every: int, steps: int, decay: float = 0.9, linger: float = 0.0, device: str = "cpu") -> nn.Module:
    torch.manual_seed(0)
    model = nn.Linear(3, 3).to(device)
    ema = EMA(model, decay, every)
    if linger:
        before_lerp(ema, lambda: time.sleep(linger))
    for step in range(steps):
        ema.before_step()
        drift(model, step)
        ema.update(step)
    return ema.model


def test_a_slow_thread_changes_no_bit() -> None:
    quick, slow = averaged_layer(every=1, steps=6), averaged_layer(every=1, steps=6, linger=0.02)
    assert torch.equal(quick.get_parameter("weight"), slow.get_parameter("weight"))


@pytest.mark.gpu
@pytest.mark.parametrize("linger", [0.0, 0.02])
def test_the_average_of_weights_on_a_gpu_is_that_of_a_cpu(linger: float) -> None:
    cpu, gpu = (averaged_layer(every=1, steps=6, linger=linger, device=device) for device in ("cpu", "cuda"))
    assert torch.equal(cpu.get_parameter("weight"), gpu.get_parameter("weight"))


def test_the_average_moves_in_another_thread() -> None:
    model = nn.Linear(3, 3)
    ema = EMA(model, 0.9)
    threads: list[str] = []
    before_lerp(ema, lambda: threads.append(threading.current_thread().name))
    ema.update(step=0)
    ema.join()
    assert threads[0].startswith("ema")


def test_an_error_in_the_thread_is_raised_at_the_next_reading() -> None:
    ema = EMA(nn.Linear(3, 3), 0.9)
    ema._averages["weight"] = torch.zeros(7)
    ema.update(step=0)
    with pytest.raises(ValueError, match="broadcast"):
        ema.state_dict()


def test_of_every_n_updates_only_the_last_is_averaged_with_n_decays_at_once() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = EMA(model, decay=0.75, every=3)
    nn.init.ones_(model.weight)
    for step, kept in ((1000, 1), (1001, 0.75**3), (1002, 0.75**3), (1003, 0.75**3), (1004, 0.75**6)):
        ema.update(step)
        assert 1 - ema.model.get_parameter("weight").item() == pytest.approx(kept), step


def test_rare_updates_keep_as_much_of_the_beginning_as_single_ones() -> None:
    """Held weights of 1 after initial ones of 0: what is missing to 1 is the product of all decays, young ones too."""

    def missing(every: int) -> float:
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        ema = EMA(model, decay=0.9, every=every)
        nn.init.ones_(model.weight)
        for step in range(12):
            ema.update(step)
        return 1 - ema.model.get_parameter("weight").item()

    assert missing(every=4) == pytest.approx(missing(every=1), rel=1e-3)


def test_an_average_resumes_bit_for_bit_from_a_file(tmp_path: Path) -> None:
    models = [nn.Linear(3, 3), nn.Linear(3, 3)]
    uninterrupted, resumed = EMA(models[0], 0.9, every=2), EMA(models[1], 0.9, every=2)
    for step in range(3):
        drift(models[0], step)
        uninterrupted.update(step)
    save_tensors(tmp_path / "ema.safetensors", uninterrupted.state_dict())
    models[1].load_state_dict(models[0].state_dict())
    resumed.load_state_dict(load_tensors(tmp_path / "ema.safetensors"))
    for step in range(3, 6):
        for model, ema in zip(models, (uninterrupted, resumed), strict=True):
            drift(model, step)
            ema.update(step)
    assert torch.equal(uninterrupted.model.get_parameter("weight"), resumed.model.get_parameter("weight"))


def test_frozen_parameters_are_left_out_and_saved_with_the_rest() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    ema = EMA(model, 0.9)
    drift(model[1], 0)
    ema.update(0)
    state = ema.state_dict()
    assert list(state) == list(model.state_dict())
    assert torch.equal(state["0.weight"], model.get_parameter("0.weight"))
