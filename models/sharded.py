"""Functions that treat plain tensors and sharded ones (FSDP2's DTensors) alike."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from torch import Tensor
from typing_extensions import TypeIs

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def local_shard(tensor: Tensor) -> Tensor:
    """Return this worker's shard of a DTensor, or a plain tensor itself: the same memory, detached."""
    tensor = tensor.detach()
    return tensor.to_local() if _is_sharded(tensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """Return a DTensor gathered from all workers, or a plain tensor itself; every worker has to call this."""
    return tensor.full_tensor() if _is_sharded(tensor) else tensor


def shard_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """Return the part of a full or sharded ``tensor`` that corresponds to ``pattern``'s shard on this worker."""
    if _is_sharded(pattern) and not _is_sharded(tensor):
        from torch.distributed.tensor import distribute_tensor

        mesh, placements = pattern.device_mesh, pattern.placements
        tensor = distribute_tensor(tensor.to(mesh.device_type), mesh, placements, src_data_rank=None)
    return local_shard(tensor)


def as_shard_of(local: Tensor, pattern: Tensor) -> Tensor:
    """Return the DTensor shaped and sharded like ``pattern`` whose shard on this worker is ``local``.

    If ``pattern`` is a plain tensor, ``local`` is returned.
    """
    if not _is_sharded(pattern):
        return local
    from torch.distributed.tensor import DTensor

    mesh, placements = pattern.device_mesh, pattern.placements
    local = local.to(mesh.device_type)
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=pattern.shape, stride=pattern.stride())


def _is_sharded(tensor: Tensor) -> TypeIs[DTensor]:
    """Return whether a tensor is a DTensor; none is before their module is imported, which takes a second."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)
