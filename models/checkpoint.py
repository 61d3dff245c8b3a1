"""Model directories: ``weights.safetensors`` + ``config.yaml`` + a manifest with hashes, written last.

A directory without a valid manifest is not a checkpoint: a writer killed half-way leaves nothing that a reader
takes for whole. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from models.errors import UserError

MANIFEST = "manifest.json"
CONFIG = "config.yaml"
WEIGHTS = "weights.safetensors"


class CheckpointError(UserError):
    """A model directory is missing, incomplete or damaged."""


ModelT = TypeVar("ModelT", bound=nn.Module)


def save_model(directory: str | Path, model: nn.Module) -> Path:
    """Write ``model.state_dict()`` and ``model.config`` so that :func:`load_model` gives the model back."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MANIFEST).unlink(missing_ok=True)
    save_tensors(directory / WEIGHTS, model.state_dict())
    save_config(directory / CONFIG, model.config)
    write_manifest(directory)
    return directory


def load_model(cls: type[ModelT], config_cls: type, directory: str | Path, device: str = "cpu") -> ModelT:
    """Build ``cls(config_cls)`` from a model directory, in eval mode.

    Raises:
        CheckpointError: the directory is missing, incomplete, damaged, or holds another kind of model.
    """
    directory = Path(directory)
    verify(directory)
    config = load_config_file(directory / CONFIG, config_cls)
    model = cls(config)
    try:
        model.load_state_dict(safetensors.torch.load_file(directory / WEIGHTS, device="cpu"))
    except RuntimeError as error:
        raise CheckpointError(
            f"{directory} does not hold a {cls.__name__}: {str(error).splitlines()[-1].strip()}"
        ) from error
    return model.to(device).eval()


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors (contiguous copies on the CPU)."""
    safetensors.torch.save_file(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path
    )


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read what :func:`save_tensors` wrote."""
    return safetensors.torch.load_file(path, device="cpu")


def save_config(path: Path, config: Any) -> None:
    """Write a dataclass (or plain mapping) as YAML."""
    node = OmegaConf.structured(config) if is_dataclass(config) else OmegaConf.create(config)
    OmegaConf.save(node, path)


def load_config_file(path: Path, config_cls: type) -> Any:
    """Read YAML into ``config_cls``, refusing keys it does not have."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(config_cls), OmegaConf.load(path)))
    except Exception as error:
        raise CheckpointError(
            f"{path} does not describe a {config_cls.__name__}: {str(error).splitlines()[0]}"
        ) from error


def write_manifest(directory: Path) -> None:
    """Hash every file of ``directory`` into its manifest; calling this is what makes the directory whole."""
    files = {
        file.name: file_hash(file) for file in sorted(directory.iterdir()) if file.is_file() and file.name != MANIFEST
    }
    temporary = directory / f".{MANIFEST}"
    temporary.write_text(json.dumps({"files": files}, indent=2))
    temporary.rename(directory / MANIFEST)


def verify(directory: str | Path) -> dict[str, str]:
    """Return file name -> SHA-256 of a whole directory.

    Raises:
        CheckpointError: no manifest, a file is missing, or a hash differs.
    """
    directory = Path(directory)
    manifest = directory / MANIFEST
    if not manifest.is_file():
        raise CheckpointError(f"{directory} is not a complete checkpoint: it has no {MANIFEST}.")
    files: dict[str, str] = json.loads(manifest.read_text())["files"]
    for name, expected in files.items():
        if not (directory / name).is_file() or file_hash(directory / name) != expected:
            raise CheckpointError(f"{directory / name} is missing or damaged: its hash is not the manifest's.")
    return files


def is_complete(directory: str | Path) -> bool:
    """Whether :func:`verify` would accept the directory."""
    try:
        verify(directory)
    except CheckpointError:
        return False
    return True


def model_hash(directory: str | Path) -> str:
    """Twelve hex digits that name the weights of a model directory, for reports and logs."""
    files = verify(directory)
    return files.get(WEIGHTS, hashlib.sha256(json.dumps(files).encode()).hexdigest())[:12]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
