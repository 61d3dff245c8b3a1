"""Take the model out of a checkpoint: its averaged weights (EMA), as a model directory."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import yaml
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from models.checkpoint import CONFIG, save_config, save_tensors
from models.manifest import WEIGHTS, write_manifest

EMA = "ema/"


def export_ema(checkpoint: Path, directory: Path) -> Path:
    """Write the EMA of a verified local checkpoint into ``directory``, which ``models.checkpoint`` loads; return it.

    It makes no difference whether one worker wrote the checkpoint or several its shards.
    """
    reader = HuggingFaceStorageReader(str(checkpoint))
    saved = reader.read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty(of.size, dtype=of.properties.dtype)
        for name, of in saved.items()
        if name.startswith(EMA) and isinstance(of, TensorStorageMetadata)
    }
    with warnings.catch_warnings(action="ignore"):  # about no_dist: this process reads for itself
        load(tensors, storage_reader=reader, no_dist=True)
    directory.mkdir(parents=True, exist_ok=True)
    save_tensors(directory / WEIGHTS, {name.removeprefix(EMA): tensor for name, tensor in tensors.items()})
    save_config(directory / CONFIG, yaml.safe_load((checkpoint / CONFIG).read_text())["task"]["model"])
    write_manifest(directory)
    return directory
