"""Gradient scales for fp16: one for each residual block (paper section 2.4), or one for the whole loss.

In fp16 the activation gradients of many layers fall below the smallest number there is, and no single loss scale fits
all of 128 blocks. So each has its own: it multiplies the gradient that comes into the block's branch and divides the
one that leaves it, and the sum along the identity path stays as it would be, in fp32::

    x ──> [fp16 branch] ──> fp32 ──> +          forward
    x <── / scale, 0 if not finite <── [fp16 branch] <── fp16 <── x scale          backward

Parameters' gradients come out multiplied; :meth:`GradientScales.unscale` divides them, and skips a block's update if
one of them is not finite. What lies outside the blocks (embeddings, heads, last norm) is fp32 and needs no scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from models.sharded import local_shard

INITIAL_SCALE, MIN_SCALE, MAX_SCALE = 2.0**13, 2.0**7, 2.0**24
"""Scales for one data-parallel worker."""

GROWTH = 2 ** (1 / 1000)
"""Factor of a finite update."""

BACKOFF = 1 / math.sqrt(2)
"""Factor of a non-finite one."""

WINDOW = 125
"""Updates from one division to the next, at least: until its moments forget, one cause overflows several times."""

AllReduceMin = Callable[[Tensor], Tensor]
"""The elementwise minimum, over all workers, of a float32 vector."""


class Residual:
    """``x + branch(x)``; also where the branch's gradient is scaled, once :class:`ResblockScales` has set ``scale``.

    ``parts`` are the modules whose parameters are the branch's. This is an attribute of a module and none itself: it
    leaves no trace in a state dict, and without a scale costs no more than the call.
    """

    def __init__(self, *parts: nn.Module) -> None:
        self.parts = parts
        self.scale: Tensor | None = None

    def __call__(self, x: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        if self.scale is None:
            return x + branch(x)
        return x + _ScaleIncoming.apply(branch(_UnscaleOutgoing.apply(x, self.scale)), self.scale)

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for part in self.parts for parameter in part.parameters()]


class GradientScales:
    """A scale for each group of parameters. The order within an update::

        scales.scale_loss(loss).backward()    # of every micro-batch; then the data-parallel mean, if not yet done
        scales.unscale()                      # before clipping
        optimizer.step()                      # which passes over parameters whose gradient is None
        scales.update()

    ``workers`` is M, the data-parallel workers over whose *sum* each one's loss is normalised. Where a worker's loss is
    the mean of its own rows, as for DDP and FSDP, its gradients do not shrink with their number, and M is 1.

    ``all_reduce_min`` is needed where a worker sees only its shards of the gradients, as with FSDP: all
    have to skip together.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[nn.Parameter]], workers: int = 1, all_reduce_min: AllReduceMin | None = None
    ) -> None:
        self._names = list(groups)
        self._groups = [[parameter for parameter in group if parameter.requires_grad] for group in groups.values()]
        self._all_reduce_min = all_reduce_min
        self._bounds = (workers * MIN_SCALE, workers * MAX_SCALE)
        device = self._groups[0][0].device
        self._scale = torch.full((len(groups),), workers * INITIAL_SCALE, device=device)
        self._since = torch.full((len(groups),), WINDOW, device=device)  # updates since the last division
        self._finite = torch.ones(len(groups), device=device)

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss to call ``backward`` on."""
        return loss

    @torch.no_grad()
    def unscale(self) -> int:
        """Divide every gradient by its scale; those of a group with Inf or NaN become None. Returns how many groups.

        The only synchronisation with the device in an update: the optimizer has to know whom to skip.
        """
        found, inverse = torch.zeros_like(self._scale), 1 / self._scale
        for index, group in enumerate(self._groups):
            gradients = [local_shard(parameter.grad) for parameter in group if parameter.grad is not None]
            if gradients:
                torch._amp_foreach_non_finite_check_and_unscale_(gradients, found[index], inverse[index])
        self._finite = 1 - found if self._all_reduce_min is None else self._all_reduce_min(1 - found)
        skipped = [group for group, finite in zip(self._groups, self._finite.tolist(), strict=True) if not finite]
        for group in skipped:
            for parameter in group:
                parameter.grad = None
        return len(skipped)

    @torch.no_grad()
    def update(self) -> None:
        """Grow the scales whose gradients were finite at the last :meth:`unscale`, divide the others."""
        finite = self._finite > 0
        divide = ~finite & (self._since >= WINDOW)
        self._scale.mul_(torch.where(finite, GROWTH, torch.where(divide, BACKOFF, 1.0))).clamp_(*self._bounds)
        self._since.masked_fill_(divide, 0).add_(1)

    def named(self) -> dict[str, float]:
        """The scales by the names of their groups, to log; waits for the device."""
        return dict(zip(self._names, self._scale.tolist(), strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """``scale`` float32 [groups] and ``since`` int64 [groups]."""
        return {"scale": self._scale.clone(), "since": self._since.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`state_dict` gave.

        Raises:
            ValueError: it is of another number of groups.
        """
        if state["scale"].shape != self._scale.shape:
            raise ValueError(f"the state has {len(state['scale'])} gradient scales, the model {len(self._scale)}.")
        self._scale.copy_(state["scale"])
        self._since.copy_(state["since"])


class ResblockScales(GradientScales):
    """One scale for each :class:`Residual` of a model that is already on its device (and sharded, if it is to be)."""

    def __init__(self, model: nn.Module, workers: int = 1, all_reduce_min: AllReduceMin | None = None) -> None:
        residuals = named_residuals(model)
        super().__init__({name: residual.parameters() for name, residual in residuals.items()}, workers, all_reduce_min)
        for residual, scale in zip(residuals.values(), self._scale.unbind(), strict=True):
            residual.scale = scale  # a view: an update in place reaches it


class LossScale(GradientScales):
    """One scale for the loss and all parameters: ordinary mixed precision, as the paper trains its dVAE."""

    def __init__(self, model: nn.Module, workers: int = 1, all_reduce_min: AllReduceMin | None = None) -> None:
        super().__init__({"loss": list(model.parameters())}, workers, all_reduce_min)

    def scale_loss(self, loss: Tensor) -> Tensor:
        return loss * self._scale[0]


def gradient_scales(model: nn.Module, workers: int = 1, all_reduce_min: AllReduceMin | None = None) -> GradientScales:
    """Scales of the kind that suits the model: by block where it is made of :class:`Residual`, else of the loss."""
    kind = ResblockScales if named_residuals(model) else LossScale
    return kind(model, workers, all_reduce_min)


def named_residuals(model: nn.Module) -> dict[str, Residual]:
    """By name, in the order of the modules that have them."""
    return {
        f"{name}.{attribute}": value
        for name, module in model.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, Residual)
    }


def no_fp16_autocast(device_type: str) -> AbstractContextManager:
    """A context for what the paper keeps in fp32, the heads: autocast to fp16 is off in it; to bf16 it stays."""
    known = torch.amp.is_autocast_available(device_type)  # not so for meta
    if known and torch.is_autocast_enabled(device_type) and torch.get_autocast_dtype(device_type) == torch.float16:
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


class _UnscaleOutgoing(torch.autograd.Function):
    """x -> x; its gradient, fp32, is divided by the scale, and is 0 where that is not finite.

    Without the zeros every block before this one would see, and back off from, an overflow that is not its own.
    """

    @staticmethod
    def forward(x: Tensor, scale: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return torch.nan_to_num(gradients[0] / scale, nan=0.0, posinf=0.0, neginf=0.0), None


class _ScaleIncoming(torch.autograd.Function):
    """y fp16 -> y fp32; the gradient is multiplied by the scale while it still is fp32, then rounded to fp16."""

    @staticmethod
    def forward(y: Tensor, scale: Tensor) -> Tensor:
        return y.float()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return (gradients[0] * scale).to(ctx.dtype), None
