"""The state of a run as files from which it can continue: tensors as safetensors, a few numbers as JSON.

::

    state-00000-of-00001.safetensors    model/<name> ema/<name> optimizer/<name>/<moment> scales/ error/
    state.json                          steps done, seconds, and what else is not a tensor
    config.yaml                         the task and how it was trained

The files are torch's distributed checkpoints: of a sharded model, each worker writes one with its shards, and any
number of workers, sharded or not, can read them. Nothing is ever unpickled.
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
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load
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
"""The safetensors header in which torch's reader of distributed checkpoints looks for the offsets of every shard."""


@dataclass
class TrainState:
    """All that changes while a run trains; ``step`` counts the updates done, ``seconds`` the time they took."""

    model: nn.Module
    ema: EMA
    optimizer: torch.optim.Optimizer
    plateau: Plateau
    scales: GradientScales | None = None
    compression: PowerSGD | None = None
    step: int = 0
    seconds: float = 0.0

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor of the state with its name, DTensors where the model is sharded; all workers call this."""
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
        """Return all that is not a tensor, for JSON."""
        return {"step": self.step, "seconds": self.seconds, "plateau": self.plateau.state_dict()}

    def set_numbers(self, numbers: Mapping[str, Any]) -> None:
        """Restore what :meth:`numbers` returned."""
        self.step, self.seconds = numbers["step"], numbers["seconds"]
        self.plateau.load_state_dict(numbers["plateau"])


@dataclass
class Snapshot:
    """A copy, in main memory, of what one worker writes of a state: training goes on while it is written."""

    numbers: dict[str, Any]
    config: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    offsets: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, state: TrainState, config: Mapping[str, Any], rank: int, writers: int) -> Snapshot:
        """Copy what worker ``rank`` has to write; all workers call this.

        Of sharded tensors its shards, if it is one of the first ``writers`` ranks, which together hold a whole model;
        of all others everything, if it is rank 0.
        """
        snapshot = cls(state.numbers(), dict(config))
        for name, tensor in state.tensors():
            if isinstance(tensor, DTensor) and rank < writers:
                _, offsets = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
                snapshot._copy(name, tensor.to_local(), offsets)
            elif rank == 0:
                snapshot._copy(name, tensor, (0,) * tensor.ndim)
        return snapshot

    def _copy(self, name: str, tensor: Tensor, offsets: Sequence[int]) -> None:
        if tensor.numel():  # a tensor of fewer rows than workers leaves the last ones an empty shard
            self.tensors[name] = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
            self.offsets[name] = list(offsets)

    def write(self, directory: Path, rank: int, writers: int) -> None:
        """Write the files of worker ``rank`` into a local directory of its own."""
        directory.mkdir(parents=True, exist_ok=True)
        header = {"format": "pt", OFFSETS: json.dumps({n: {"saved_offsets": o} for n, o in self.offsets.items()})}
        safetensors.torch.save_file(self.tensors, directory / f"state-{rank:05d}-of-{writers:05d}.safetensors", header)
        if rank == 0:
            (directory / STATE).write_text(json.dumps(self.numbers))
            save_config(directory / "config.yaml", self.config)


def read_checkpoint(directory: Path, state: TrainState) -> None:
    """Read a verified checkpoint into ``state`` in place; each worker reads what it needs."""
    tensors = dict(state.tensors())
    with warnings.catch_warnings(action="ignore"):  # about no_dist: that each worker reads for itself is on purpose
        load(tensors, storage_reader=HuggingFaceStorageReader(str(directory)), no_dist=True)
    state.ema.load_state_dict(_with_prefix(tensors, "ema/"))
    if state.scales:
        state.scales.load_state_dict(_with_prefix(tensors, "scales/"))
    state.set_numbers(json.loads((directory / STATE).read_text()))


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
