"""Gradient scales for fp16: one for each residual block (paper section 2.4), or one for the whole loss.

In fp16 the activation gradients of many layers are smaller than the smallest number, and no single loss scale fits all
128 blocks. So each block has a scale of its own: the gradient that enters the block's branch is multiplied by it, and
the one that leaves the branch is divided by it. Along the identity path gradients are unscaled, in fp32::

    x ----> [fp16 branch] ----> fp32 ----> +                                         forward
    x <---- divide, 0 if not finite <---- [fp16 branch] <---- fp16 <---- multiply    backward

Gradients of the branch's parameters are therefore scaled; :meth:`GradientScales.unscale` divides them, and skips the
update of a block with non-finite ones. All else (embeddings, heads, last norm) is fp32 and needs no scale.
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
"""The first, smallest and largest scale, for one data-parallel worker."""

GROWTH_FACTOR = 2 ** (1 / 1000)
"""What a scale is multiplied by after an update with finite gradients."""

BACKOFF_FACTOR = 1 / math.sqrt(2)
"""What a scale is multiplied by after an update with a gradient that is not finite."""

BACKOFF_WINDOW = 125
"""Updates within which a scale is reduced at most once (the paper's value).

One cause, such as optimizer moments that a rare batch left large, makes several updates in a row overflow. Without the
window the scale would be reduced for each of them, to where small gradients vanish, and need 500 finite updates to grow
back from each reduction.
"""

AllReduceMin = Callable[[Tensor], Tensor]
"""A function that returns the elementwise minimum of a float32 vector over all workers."""


class Residual:
    """Computes ``x + branch(x)``, with the branch's gradient scaled once :class:`ResblockScales` has set ``scale``.

    ``branch_modules`` are the modules whose parameters belong to the branch. This class is no module itself, so that
    state dicts do not change; without a scale it costs no more than the call.
    """

    def __init__(self, *branch_modules: nn.Module) -> None:
        self.branch_modules = branch_modules
        self.scale: Tensor | None = None

    def __call__(self, x: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """Return ``x + branch(x)``."""
        if self.scale is None:
            return x + branch(x)
        # In backward order: the gradient of the sum is multiplied, goes through the branch, and is divided.
        residual: Tensor = _ScaleIncoming.apply(branch(_UnscaleOutgoing.apply(x, self.scale)), self.scale)
        return x + residual

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the branch."""
        return [parameter for module in self.branch_modules for parameter in module.parameters()]


class GradientScales:
    """A gradient scale for each group of parameters.

    Within an update its methods are called in this order::

        scales.scale_loss(loss).backward()  # for every microbatch; then average over workers, if not done by backward
        scales.unscale()                    # before clipping
        optimizer.step()                    # skips parameters whose gradient is None
        scales.update()

    The paper multiplies the scales and their bounds by the number of data-parallel workers, since it divides each
    worker's loss by that number. ``workers`` is 1 where each worker's loss is the mean over its own rows, as it is
    under DDP and FSDP.

    ``all_reduce_min`` is needed where a worker has only its shards of the gradients, as under FSDP: if one worker skips
    a group, all have to.
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
        self._since = torch.full((len(groups),), BACKOFF_WINDOW, device=device)  # updates since the last reduction
        self._finite = torch.ones(len(groups), device=device)

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Return the loss on which to call ``backward``."""
        return loss

    @torch.no_grad()
    def unscale(self) -> int:
        """Divide every gradient by its group's scale, set those of groups with an Inf or NaN to None, and count these.

        This is the only point in an update that waits for the device: the optimizer has to know what to skip.
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
        """Grow the scales whose gradients were finite at the last :meth:`unscale`, and reduce the others."""
        finite = self._finite > 0
        reduce = ~finite & (self._since >= BACKOFF_WINDOW)
        factor = torch.where(finite, GROWTH_FACTOR, torch.where(reduce, BACKOFF_FACTOR, 1.0))
        self._scale.mul_(factor).clamp_(*self._bounds)
        self._since.masked_fill_(reduce, 0).add_(1)

    def named(self) -> dict[str, float]:
        """Return the scale of each group by its name, to log; this waits for the device."""
        return dict(zip(self._names, self._scale.tolist(), strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """Return ``scale`` float32 [G] and ``since``, the updates since it was last reduced, int64 [G], of G groups."""
        return {"scale": self._scale.clone(), "since": self._since.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            ValueError: it has another number of groups.
        """
        if state["scale"].shape != self._scale.shape:
            raise ValueError(f"the state has {len(state['scale'])} gradient scales, the model {len(self._scale)}.")
        self._scale.copy_(state["scale"])
        self._since.copy_(state["since"])


class ResblockScales(GradientScales):
    """One scale for each :class:`Residual` of a model, already on its device, and sharded if it will be."""

    def __init__(self, model: nn.Module, workers: int = 1, all_reduce_min: AllReduceMin | None = None) -> None:
        residuals = named_residuals(model)
        super().__init__({name: residual.parameters() for name, residual in residuals.items()}, workers, all_reduce_min)
        for residual, scale in zip(residuals.values(), self._scale.unbind(), strict=True):
            residual.scale = scale  # a view: updates in place reach it


class LossScale(GradientScales):
    """One scale for the loss and all parameters: ordinary mixed precision, with which the paper trains its dVAE."""

    def __init__(self, model: nn.Module, workers: int = 1, all_reduce_min: AllReduceMin | None = None) -> None:
        super().__init__({"loss": list(model.parameters())}, workers, all_reduce_min)

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Return the loss times the scale."""
        return loss * self._scale[0]


def gradient_scales(model: nn.Module, workers: int = 1, all_reduce_min: AllReduceMin | None = None) -> GradientScales:
    """Return :class:`ResblockScales` for a model that has any :class:`Residual`, else a :class:`LossScale`."""
    kind = ResblockScales if named_residuals(model) else LossScale
    return kind(model, workers, all_reduce_min)


def named_residuals(model: nn.Module) -> dict[str, Residual]:
    """Return every :class:`Residual` of a model by its name, in the order of the modules that have them."""
    return {
        f"{name}.{attribute}": value
        for name, module in model.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, Residual)
    }


def no_fp16_autocast(device_type: str) -> AbstractContextManager[object]:
    """Return a context in which autocast to fp16 is off, for the heads, which the paper keeps in fp32.

    Autocast to bf16 stays on.
    """
    is_available = torch.amp.is_autocast_available(device_type)  # it is not for meta
    if (
        is_available
        and torch.is_autocast_enabled(device_type)
        and torch.get_autocast_dtype(device_type) == torch.float16
    ):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


class _UnscaleOutgoing(torch.autograd.Function):
    """The identity; its gradient, fp32, is divided by the scale, and set to 0 where the result is not finite."""

    @staticmethod
    def forward(x: Tensor, scale: Tensor) -> Tensor:  # noqa: ARG004 (kept by setup_context)
        """Return x."""
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004 (autograd's)
        """Keep the scale."""
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient that leaves the branch."""
        # An overflow within the branch arrives here as Inf or NaN. Passed on, it would reach every earlier block, and
        # all would skip their update and reduce their scale for an overflow that is not their own. With 0 they get the
        # gradient of the identity path alone, which is finite; this block sees the overflow in its own parameters.
        (scale,) = ctx.saved_tensors
        return torch.nan_to_num(gradients[0] / scale, nan=0.0, posinf=0.0, neginf=0.0), None


class _ScaleIncoming(torch.autograd.Function):
    """Casts fp16 to fp32; the gradient is multiplied by the scale in fp32, and only then rounded to fp16."""

    @staticmethod
    def forward(y: Tensor, scale: Tensor) -> Tensor:  # noqa: ARG004 (kept by setup_context)
        """Return y in fp32."""
        return y.float()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004 (autograd's)
        """Keep the scale and the branch's dtype."""
        ctx.save_for_backward(inputs[1])
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient that enters the branch."""
        (scale,) = ctx.saved_tensors
        return (gradients[0] * scale).to(ctx.dtype), None
