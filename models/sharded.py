"""Tensors that may be one worker's shard of a whole (FSDP2's DTensors), or plain."""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def local_shard(tensor: Tensor) -> Tensor:
    """This worker's shard of a DTensor, the same memory; a plain tensor itself. Without gradient."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a DTensor, which every worker has to ask for; a plain tensor itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """The part of a whole (or sharded) ``tensor`` that stands where ``pattern``'s local shard does."""
    if isinstance(pattern, DTensor) and not isinstance(tensor, DTensor):
        mesh, placements = pattern.device_mesh, pattern.placements
        tensor = distribute_tensor(tensor.to(mesh.device_type), mesh, placements, src_data_rank=None)
    return local_shard(tensor)


def as_shard_of(local: Tensor, pattern: Tensor) -> Tensor:
    """``local`` as this worker's shard of a tensor shaped and sharded as ``pattern``; plain if that is plain."""
    if not isinstance(pattern, DTensor):
        return local
    mesh, placements = pattern.device_mesh, pattern.placements
    local = local.to(mesh.device_type)
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=pattern.shape, stride=pattern.stride())
