"""The moving average of the weights, kept in the host's memory and updated by a thread."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from models.sharded import as_shard_of, local_shard, shard_like


class EMA:
    """An exponential moving average of a model's trainable parameters.

    The decay grows as (1 + step) / (10 + step) up to its full value: else the average of a short run would be mostly
    its initial weights. Frozen parameters are the model's, and so are buffers.

    After every ``every``-th update the weights (of a sharded model, this worker's shards) are copied to the host, and a
    thread moves the average towards the copy, while training goes on::

        training thread   step 7   update()  forward, backward of 8 ...        before_step()  step 8  update()
                                     │                                              ^                    ^
        copy stream (GPU)            └─ copy weights to pinned memory ── event ─────┘                    │
        EMA thread                                                         └─ average += ... ── join() ──┘

    Two waits make the result independent of timing. The weights must not change while they are copied: before_step()
    makes the GPU, not the host, wait for the event. The copy must not be overwritten while the thread reads it: the
    next update() joins the thread first, and so does all that reads the average.
    """

    def __init__(self, model: nn.Module, decay: float, every: int = 1) -> None:
        self.decay, self.every = decay, every
        self._live = model
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        shards = {name: local_shard(p) for name, p in self._parameters.items()}
        # Pinned memory is what a GPU can copy to while it computes.
        self._copies = {name: torch.empty_like(p, device="cpu", pin_memory=p.is_cuda) for name, p in shards.items()}
        self._module = None if self._is_sharded() else copy.deepcopy(model).eval().requires_grad_(False).cpu()
        if self._module is None:
            self._averages = {name: p.to("cpu", copy=True) for name, p in shards.items()}
        else:
            averaged = dict(self._module.named_parameters())
            self._averages = {name: averaged[name] for name in shards}
        gpus = {p.device for p in shards.values() if p.is_cuda}
        self._streams = {gpu: torch.cuda.Stream(gpu) for gpu in gpus}  # type: ignore[no-untyped-call]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ema")
        self._pending: Future[None] | None = None
        self._copy_ends: list[torch.cuda.Event] = []

    @property
    def model(self) -> nn.Module:
        """The averaged model, in the host's memory.

        Raises:
            ValueError: the model is sharded, so that no worker has all of it: use :meth:`state_dict`.
        """
        if self._module is None:
            raise ValueError("the model is sharded: use EMA.state_dict().")
        self.join()
        for ours, theirs in zip(self._module.buffers(), self._live.buffers(), strict=True):
            ours.copy_(theirs)
        return self._module

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Begin to average in the weights after the 0-based ``step`` if it is due, as every ``every``-th step is."""
        if (step + 1) % self.every:
            return
        self.join()
        self._copy_ends = self._copy_weights()
        self._pending = self._thread.submit(self._lerp, 1 - self._decay_until(step))

    def before_step(self) -> None:
        """Make the GPU finish the copy of the weights before the optimizer's step changes them; on a CPU do nothing."""
        for event in self._copy_ends:
            event.wait()  # for the current stream: the host does not block

    def join(self) -> None:
        """Wait until the average is up to date."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged model's state dict: on the host, or as DTensors sharded like the model."""
        if self._module is not None:
            return self.model.state_dict()
        self.join()
        averages = {name: as_shard_of(self._averages[name], p) for name, p in self._parameters.items()}
        return self._live.state_dict() | averages

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` returned, or the full tensors of it."""
        self.join()
        for name, average in self._averages.items():
            average.copy_(shard_like(state[name], self._parameters[name]))

    def _copy_weights(self) -> list[torch.cuda.Event]:
        """Copy the weights to the host, from a GPU on a stream beside the computing one; return when that ends."""
        for stream in self._streams.values():
            stream.wait_stream(torch.cuda.current_stream(stream.device))  # the optimizer's step comes first
        for name, copied in self._copies.items():
            shard = local_shard(self._parameters[name])
            with torch.cuda.stream(self._streams.get(shard.device)):
                copied.copy_(shard, non_blocking=True)
        return [stream.record_event() for stream in self._streams.values()]

    @torch.no_grad()
    def _lerp(self, weight: float) -> None:
        """Average in the copy, in the EMA thread: average += weight (copy - average); the copy is used up.

        By numpy, on one core. torch would give this thread a team of OpenMP threads of its own, which compete with
        the training thread's for the cores and spin between their tasks: on two cores a step then takes 1.4 times as
        long (docs/benchmarks.md).
        """
        for event in self._copy_ends:
            event.synchronize()  # blocks this thread until the copy is complete
        for average, copied in zip(self._averages.values(), self._copies.values(), strict=True):
            change = copied.numpy()
            change -= average.numpy()
            change *= weight
            average.numpy()[...] += change

    def _decay_until(self, step: int) -> float:
        """Return the product of the last ``every`` steps' decays: the share of the average that they would keep."""
        steps = range(max(0, step + 1 - self.every), step + 1)
        return math.prod(min(self.decay, (1 + each) / (10 + each)) for each in steps)

    def _is_sharded(self) -> bool:
        return any(isinstance(parameter, DTensor) for parameter in self._parameters.values())
