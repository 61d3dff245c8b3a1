"""Functions that treat plain tensors and sharded ones (FSDP2's DTensors) alike."""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def local_shard(tensor: Tensor) -> Tensor:
    """Return this worker's shard of a DTensor, or a plain tensor itself: the same memory, detached."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """Return a DTensor gathered from all workers, or a plain tensor itself; every worker has to call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """Return the part of a full or sharded ``tensor`` that corresponds to ``pattern``'s shard on this worker."""
    if isinstance(pattern, DTensor) and not isinstance(tensor, DTensor):
        mesh, placements = pattern.device_mesh, pattern.placements
        tensor = distribute_tensor(tensor.to(mesh.device_type), mesh, placements, src_data_rank=None)
    return local_shard(tensor)


def as_shard_of(local: Tensor, pattern: Tensor) -> Tensor:
    """Return the DTensor shaped and sharded like ``pattern`` whose shard on this worker is ``local``.

    If ``pattern`` is a plain tensor, ``local`` is returned.
    """
    if not isinstance(pattern, DTensor):
        return local
    mesh, placements = pattern.device_mesh, pattern.placements
    local = local.to(mesh.device_type)
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=pattern.shape, stride=pattern.stride())
