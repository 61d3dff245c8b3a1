"""AdamW without decay on gains, biases and embeddings; the moving average of the weights; both as named tensors."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from models.settings import setting


@dataclass
class OptimizerConfig:
    """AdamW, gradient clipping and EMA; the defaults are the paper's for the dVAE."""

    beta1: float = setting(0.9, "AdamW's decay of the gradient's mean")
    beta2: float = setting(0.999, "AdamW's decay of the gradient's square")
    epsilon: float = setting(1e-8, "AdamW's epsilon")
    weight_decay: float = setting(1e-4, "decay of weight matrices; gains, biases and embeddings have none")
    clip_norm: float = setting(0.0, "greatest norm of the whole gradient; 0 turns clipping off")
    ema_decay: float = setting(0.999, "decay of the moving average of the weights")


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; the learning rate is set at every step."""
    decayed, plain = _decayed_and_plain(model)
    groups = [
        {"params": list(decayed.values()), "weight_decay": config.weight_decay},
        {"params": list(plain.values()), "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]], betas=betas, eps=config.epsilon, fused=True
    )
    _begin(optimizer)
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's whole state as ``<parameter>/<moment>`` -> tensor."""
    state = optimizer.state_dict()["state"]
    names = _names_in_order(model)
    return {f"{names[index]}/{key}": value for index, moments in state.items() for key, value in moments.items()}


def _begin(optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter its moments, all zero, which the optimizer itself would only make at its first step.

    A checkpoint is read into them in place, in whatever memory layout and slices they have.
    """
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for moments in optimizer.state.values():
        for moment in moments.values():
            moment.zero_()


class EMA:
    """An exponential moving average of a model's trainable parameters, kept as a model of its own.

    The decay grows as (1 + step) / (10 + step) up to its full value, so that a short run's average is not mostly its
    initialisation. Frozen parameters never differ; buffers are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.follow(model)

    def follow(self, model: nn.Module) -> None:
        """Average ``model`` from now on: the same one, its parameters replaced by slices, as have been this one's."""
        averaged = dict(self.model.named_parameters())
        self._pairs = [(_local(averaged[name]), _local(parameter)) for name, parameter in trainable(model).items()]
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the model's weights after 0-based ``step``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_([ours for ours, _ in self._pairs], [theirs for _, theirs in self._pairs], 1 - decay)
        for ours, theirs in self._buffers:
            ours.copy_(theirs)


def _local(tensor: Tensor) -> Tensor:
    """A tensor, or this worker's slice of one."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()


def _decayed_and_plain(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Trainable matrices and convolutions; gains, biases and embeddings."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    parameters = trainable(model)
    decayed = {name: p for name, p in parameters.items() if p.ndim >= 2 and id(p) not in embeddings}
    return decayed, {name: p for name, p in parameters.items() if name not in decayed}


def _names_in_order(model: nn.Module) -> list[str]:
    """Parameter names in the order in which the optimizer numbers them."""
    decayed, plain = _decayed_and_plain(model)
    return [*decayed, *plain]
