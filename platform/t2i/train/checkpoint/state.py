"""All that a run needs to go on, as one directory: tensors as safetensors, and a few numbers as JSON.

::

    state-00000-of-00001.safetensors    model/<name> ema/<name> optimizer/<name>/<moment> scales/ error/
    state.json                          steps done, seconds, and what else is not a tensor
    config.yaml                         the task and how it was trained

A sharded model has one file for each worker with a slice, in the layout of torch's distributed checkpoints, which also
reads them: on any number of workers, sharded or not, whatever wrote them. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint import HuggingFaceStorageReader
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from models.checkpoint import save_config
from models.gradient_scaling import GradientScales
from t2i.train.optim.adamw import optimizer_tensors
from t2i.train.optim.ema import EMA
from t2i.train.optim.plateau import Plateau
from t2i.train.optim.powersgd import PowerSGD

STATE = "state.json"
OFFSETS = "DCP_SHARDING_INFO"
"""The safetensors header in which torch's reader of distributed checkpoints looks for the place of every slice."""


@dataclass
class TrainState:
    """What changes from step to step; ``step`` counts those done, ``seconds`` the time they took."""

    model: nn.Module
    ema: EMA
    optimizer: torch.optim.Optimizer
    plateau: Plateau
    scales: GradientScales | None = None
    compression: PowerSGD | None = None
    step: int = 0
    seconds: float = 0.0

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the state with its name, slices where the model is sharded."""
        for name, tensor in self.model.state_dict().items():
            yield f"model/{name}", tensor
        for name, tensor in self.ema.state_dict().items():
            yield f"ema/{name}", tensor
        for name, tensor in optimizer_tensors(self.model, self.optimizer).items():
            yield f"optimizer/{name}", tensor
        if self.scales:
            for name, tensor in self.scales.state_dict().items():
                yield f"scales/{name}", tensor
        if self.compression:
            for name, tensor in self.compression.settle_errors().items():
                yield f"error/{name}", tensor

    def numbers(self) -> dict[str, Any]:
        """All that is not a tensor."""
        return {"step": self.step, "seconds": self.seconds, "plateau": self.plateau.state_dict()}

    def set_numbers(self, numbers: Mapping[str, Any]) -> None:
        """Put back what :meth:`numbers` gave."""
        self.step, self.seconds = numbers["step"], numbers["seconds"]
        self.plateau.load_state_dict(numbers["plateau"])


@dataclass
class Snapshot:
    """A copy of one worker's part of a state in main memory, so that training can go on while it is written."""

    numbers: dict[str, Any]
    config: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    offsets: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, state: TrainState, config: Mapping[str, Any], rank: int, writers: int) -> Snapshot:
        """What worker ``rank`` has to keep: its slices if it is one of the ``writers``, and as the first one what is
        not sliced. All workers have to call this."""
        snapshot = cls(state.numbers(), dict(config))
        for name, tensor in state.tensors():
            if isinstance(tensor, DTensor) and rank < writers:
                place = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
                snapshot._keep(name, tensor.to_local(), place[1])
            elif rank == 0:
                snapshot._keep(name, tensor, (0,) * tensor.ndim)
        return snapshot

    def _keep(self, name: str, tensor: Tensor, offsets: Sequence[int]) -> None:
        if tensor.numel():  # the last worker's slice of few rows may be empty
            self.tensors[name] = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
            self.offsets[name] = list(offsets)

    def write(self, directory: Path, rank: int, writers: int) -> None:
        """Write worker ``rank``'s files into a directory of its own."""
        directory.mkdir(parents=True, exist_ok=True)
        header = {"format": "pt", OFFSETS: json.dumps({n: {"saved_offsets": o} for n, o in self.offsets.items()})}
        safetensors.torch.save_file(self.tensors, directory / f"state-{rank:05d}-of-{writers:05d}.safetensors", header)
        if rank == 0:
            (directory / STATE).write_text(json.dumps(self.numbers))
            save_config(directory / "config.yaml", self.config)


def read_checkpoint(directory: Path, state: TrainState) -> None:
    """Put a verified checkpoint into ``state``, in place, each worker reading what it needs."""
    tensors = dict(state.tensors())
    with warnings.catch_warnings(action="ignore"):  # that each worker reads for itself is on purpose
        dcp.load(tensors, storage_reader=HuggingFaceStorageReader(str(directory)), no_dist=True)
    state.ema.load_state_dict(_part(tensors, "ema/"))
    if state.scales:
        state.scales.load_state_dict(_part(tensors, "scales/"))
    state.set_numbers(json.loads((directory / STATE).read_text()))


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
