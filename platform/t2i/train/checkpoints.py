"""All that a run needs to go on: weights, their average, the optimizer's moments and the step, as one directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.checkpoint import load_tensors, save_config, save_tensors
from models.manifest import write_manifest
from t2i.train.optim import EMA, load_optimizer_tensors, optimizer_tensors


@dataclass
class TrainState:
    """What changes from step to step; ``step`` counts those done, ``seconds`` the time they took."""

    model: nn.Module
    ema: EMA
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0


def write_checkpoint(directory: Path, state: TrainState, config: Mapping[str, Any]) -> None:
    """Write ``state`` into ``directory``, its manifest last."""
    directory.mkdir(parents=True, exist_ok=True)
    save_tensors(directory / "model.safetensors", state.model.state_dict())
    save_tensors(directory / "ema.safetensors", state.ema.model.state_dict())
    save_tensors(directory / "optimizer.safetensors", optimizer_tensors(state.model, state.optimizer))
    (directory / "state.json").write_text(json.dumps({"step": state.step, "seconds": state.seconds}))
    save_config(directory / "config.yaml", dict(config))
    write_manifest(directory)


def read_checkpoint(directory: Path, state: TrainState) -> None:
    """Put a verified checkpoint into ``state``, in place."""
    state.model.load_state_dict(load_tensors(directory / "model.safetensors"))
    state.ema.model.load_state_dict(load_tensors(directory / "ema.safetensors"))
    load_optimizer_tensors(state.model, state.optimizer, load_tensors(directory / "optimizer.safetensors"))
    scalars = json.loads((directory / "state.json").read_text())
    state.step, state.seconds = scalars["step"], scalars["seconds"]
