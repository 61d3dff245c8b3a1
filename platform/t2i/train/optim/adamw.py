"""AdamW without decay on gains, biases and embeddings; its state as named tensors; clipping of gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.settings import setting
from models.sharded import full_tensor
from t2i.train.optim import eight_bit


@dataclass
class OptimizerConfig:
    """AdamW, gradient clipping and EMA; the defaults are the paper's for the dVAE."""

    kind: str = setting("adamw", "adamw, or adamw8bit: its moments in 8 bits (needs the extra `eightbit`)")
    beta1: float = setting(0.9, "AdamW's decay of the gradient's mean", at_least=0, below=1)
    beta2: float = setting(0.999, "AdamW's decay of the gradient's square", at_least=0, below=1)
    epsilon: float = setting(1e-8, "AdamW's epsilon", above=0)
    weight_decay: float = setting(1e-4, "decay of weight matrices; gains, biases and embeddings have none", at_least=0)
    clip_norm: float = setting(0.0, "greatest norm of the whole gradient; 0 turns clipping off", at_least=0)
    ema_decay: float = setting(0.999, "decay of the moving average of the weights", at_least=0, below=1)
    ema_every: int = setting(
        1, "update the average after every this many steps, with the decay of all of them", at_least=1
    )

    def __post_init__(self) -> None:
        if self.kind not in ("adamw", "adamw8bit"):
            raise ValueError(f"task.optimizer.kind is {self.kind!r}: use adamw or adamw8bit.")


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are not frozen, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return AdamW over the trainable parameters, its moments all zero; see :func:`set_lr` for the learning rate.

    Raises:
        UserError: 8-bit moments are configured, but torchao is not installed or the model is sharded.
    """
    decayed, plain = _decayed_and_plain(model)
    groups: list[dict[str, Any]] = [
        {"params": list(decayed.values()), "weight_decay": config.weight_decay},
        {"params": list(plain.values()), "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    betas = (config.beta1, config.beta2)
    optimizer = (
        eight_bit.build(groups, betas, config.epsilon)
        if config.kind == "adamw8bit"
        else torch.optim.AdamW(groups, betas=betas, eps=config.epsilon, fused=True)
    )
    _make_moments(optimizer)
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of the next step, for all parameters."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)  # torchao's compiled step reads this very tensor
        else:
            group["lr"] = lr


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale all gradients together so that their norm is at most ``max_norm``, unless that is 0.

    Parameters without a gradient are passed over. The norm is over all shards, so that every worker must call this.

    Returns:
        The norm before clipping, float32 [], on the parameters' device.
    """
    parameters = list(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros((), device=parameters[0].device)
    norm = full_tensor(nn.utils.get_total_norm(gradients))
    if max_norm:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as ``<parameter>/<moment>`` -> tensor, sharded where the parameter is.

    An 8-bit moment is three tensors, ``<parameter>/<moment>.codes``, ``.scale`` and ``.qmap``.
    """
    state = optimizer.state_dict()["state"]
    names = _names_in_order(model)
    moments = {f"{names[index]}/{key}": value for index, moments in state.items() for key, value in moments.items()}
    return eight_bit.flatten(moments)


def _make_moments(optimizer: torch.optim.Optimizer) -> None:
    """Have the optimizer make all moments, which it would do at its first step, and leave them zero.

    A checkpoint is read into them in place, so they must exist, with the memory layout and shards of their parameters.
    """
    set_lr(optimizer, 0.0)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for moments in optimizer.state.values():
        moments["step"].zero_()


def _decayed_and_plain(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Return the trainable parameters in two groups: matrices and convolutions; gains, biases and embeddings."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    parameters = trainable_parameters(model)
    decayed = {name: p for name, p in parameters.items() if p.ndim >= 2 and id(p) not in embeddings}
    return decayed, {name: p for name, p in parameters.items() if name not in decayed}


def _names_in_order(model: nn.Module) -> list[str]:
    """Return the parameter names in the order in which the optimizer numbers them."""
    decayed, plain = _decayed_and_plain(model)
    return [*decayed, *plain]
