"""One model on many workers: whole copies (DDP), one sharded over all (FSDP), or one in each node (hybrid).

All three give the same numbers up to the rounding of sums: a worker's loss is the mean over its rows, and gradients are
averaged over workers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from models.errors import UserError
from models.gradient_scaling import AllReduceMin
from models.sharded import full_tensor
from t2i.train.config import TrainConfig
from t2i.train.optim.ema import EMA
from t2i.train.optim.powersgd import PowerSGD


@dataclass(frozen=True)
class Worker:
    """This process among the workers; each node has ``per_node`` of them, of consecutive ranks."""

    rank: int = 0
    world: int = 1
    per_node: int = 1
    device: torch.device = torch.device("cpu")


class ReplicatedStrategy:
    """Every worker has the whole model (DDP); a single worker communicates with nobody."""

    writers = 1
    """How many workers, from rank 0 on, write files of a checkpoint."""

    def __init__(self, config: TrainConfig, worker: Worker) -> None:
        self._config, self._worker = config, worker
        self.compression: PowerSGD | None = None
        self.all_reduce_min: AllReduceMin | None = None

    def place(self, objective: nn.Module, blocks: Iterable[nn.Module]) -> nn.Module:  # noqa: ARG002  for shards only
        """Return ``objective``, with the given residual blocks, as a module that averages gradients over workers."""
        if self._worker.world == 1:
            return objective
        device_ids = [self._worker.device] if self._worker.device.type == "cuda" else None
        module = DistributedDataParallel(
            objective, device_ids=device_ids, forward_sync_buffers=False, gradient_as_bucket_view=True
        )
        if self._config.powersgd_rank:
            parameters = {name: p for name, p in objective.named_parameters() if p.requires_grad}
            self.compression = PowerSGD(parameters, self._config.powersgd_rank, self._config.seed)
            self.compression.attach(module)
        return module

    @contextmanager
    def gradients(self, module: nn.Module, last: bool) -> Iterator[None]:
        """Wrap forward and backward of a microbatch; the ``last`` one averages gradients over workers."""
        if last or not isinstance(module, DistributedDataParallel):
            yield
        else:
            with module.no_sync():
                yield

    def gather_ema(self, ema: EMA, build: Callable[[], nn.Module]) -> nn.Module | None:  # noqa: ARG002  has the module
        """Return the whole averaged model on the first worker's device, None on others; all workers call this."""
        if self._worker.rank:
            return None
        return ema.model if self._worker.device.type == "cpu" else copy.deepcopy(ema.model).to(self._worker.device)


class ShardedStrategy:
    """Every worker has a shard of every parameter (FSDP2), and gathers a residual block's parameters to compute it."""

    compression: PowerSGD | None = None

    def __init__(self, config: TrainConfig, worker: Worker) -> None:
        self._worker = worker
        self.all_reduce_min: AllReduceMin | None = all_reduce_min
        self.writers = worker.per_node if config.parallel == "hybrid" else worker.world
        self._mesh = _mesh(worker, self.writers)

    def place(self, objective: nn.Module, blocks: Iterable[nn.Module]) -> nn.Module:
        """See :meth:`ReplicatedStrategy.place`."""
        for block in blocks:
            fully_shard(block, mesh=self._mesh)
        fully_shard(objective, mesh=self._mesh)
        return objective

    @contextmanager
    def gradients(self, module: nn.Module, last: bool) -> Iterator[None]:
        """See :meth:`ReplicatedStrategy.gradients`."""
        assert isinstance(module, FSDPModule)
        module.set_requires_gradient_sync(last)
        yield

    def gather_ema(self, ema: EMA, build: Callable[[], nn.Module]) -> nn.Module | None:
        """See :meth:`ReplicatedStrategy.gather_ema`; ``build`` makes the module that the shards are gathered into."""
        # One all-gather for each name, in the same order on every worker; all receive the tensor, only the first keeps
        # it. Moved to the CPU one by one, the full tensors never have to fit on the device together.
        state = {name: full_tensor(tensor).cpu() for name, tensor in ema.state_dict().items()}
        if self._worker.rank:
            return None
        model = build().eval().requires_grad_(False)
        model.load_state_dict(state)
        return model.to(self._worker.device)


Strategy = ReplicatedStrategy | ShardedStrategy


def strategy(config: TrainConfig, worker: Worker) -> Strategy:
    """Return the strategy that ``train.parallel`` names.

    Raises:
        UserError: hybrid is asked for, but the workers do not fill the nodes evenly.
    """
    return ReplicatedStrategy(config, worker) if config.parallel == "ddp" else ShardedStrategy(config, worker)


def recompute(blocks: Iterable[nn.Module]) -> None:
    """Make residual blocks drop their activations and compute them again in the backward pass (paper section 2.4)."""
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def all_reduce_mean(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean of each value [] over all workers, float32 on each of them; one message for all values."""
    if not values or not dist.is_initialized():
        return dict(values)
    stacked = torch.stack([value.detach().float() for value in values.values()])
    dist.all_reduce(stacked)
    return dict(zip(values, stacked / dist.get_world_size(), strict=True))


def all_reduce_min(values: Tensor) -> Tensor:
    """Replace ``values`` by their elementwise minimum over all workers, on each of them; returns the same tensor."""
    dist.all_reduce(values, dist.ReduceOp.MIN)
    return values


def _mesh(worker: Worker, shards: int) -> DeviceMesh:
    """Return a device mesh [shards], or [copies, shards] if there are several copies of the model."""
    if worker.world % shards:
        raise UserError(
            f"train.parallel is hybrid, but {worker.world} workers do not fill nodes of {shards}: use fsdp, or as many "
            "workers on every node."
        )
    device = worker.device.type
    if shards == worker.world:
        return init_device_mesh(device, (shards,))
    return init_device_mesh(device, (worker.world // shards, shards), mesh_dim_names=("copies", "shards"))
