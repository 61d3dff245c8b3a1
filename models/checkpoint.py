"""Writes and reads model directories: ``weights.safetensors``, ``config.yaml`` and a manifest (models.manifest).

Nothing is ever pickled or unpickled.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from models.dtypes import DTYPES, check_dtype
from models.manifest import MANIFEST, WEIGHTS, CheckpointError, verify, write_manifest
from models.precision import cast_for_inference

CONFIG = "config.yaml"
"""Name of the configuration file in a model directory."""

ModelT = TypeVar("ModelT", bound=nn.Module)


def save_model(directory: str | Path, model: nn.Module) -> Path:
    """Write ``model.state_dict()`` and ``model.config`` as a model directory, for :func:`load_model`."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MANIFEST).unlink(missing_ok=True)
    save_tensors(directory / WEIGHTS, model.state_dict())
    save_config(directory / CONFIG, model.config)
    write_manifest(directory)
    return directory


def load_model(
    cls: type[ModelT], config_cls: type, directory: str | Path, device: str = "cpu", dtype: str = "float32"
) -> ModelT:
    """Return the model of class ``cls`` in a directory, in eval mode, to compute in ``dtype`` (see models.dtypes).

    Its configuration is read as a ``config_cls``.

    Raises:
        CheckpointError: the directory is missing, incomplete, damaged, or holds another kind of model.
        UserError: there is no such ``dtype``.
    """
    check_dtype(dtype, getattr(cls, "DTYPES", DTYPES))
    directory = Path(directory)
    verify(directory)
    config = load_config_file(directory / CONFIG, config_cls)
    model = cls(config)
    _load_state(model, directory)
    return cast_for_inference(model.to(device).eval(), dtype)


def load_weights(model: nn.Module, directory: str | Path) -> None:
    """Load the weights of a model directory into ``model``, which keeps its device and dtype.

    Raises:
        CheckpointError: the directory is missing, incomplete, damaged, or holds a model of other sizes.
    """
    verify(Path(directory))
    _load_state(model, Path(directory))


def _load_state(model: nn.Module, directory: Path) -> None:
    """Load the weights file of a directory that is verified."""
    try:
        model.load_state_dict(load_tensors(directory / WEIGHTS))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{directory} does not hold such a {type(model).__name__}: {reason}") from error


def copy_model(source: Path, directory: Path, dtype: torch.dtype) -> Path:
    """Copy a model directory with its floating-point weights rounded to ``dtype``; :func:`load_model` reads both.

    Raises:
        CheckpointError: ``source`` is missing, incomplete or damaged.
    """
    verify(source)
    weights = load_tensors(source / WEIGHTS)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MANIFEST).unlink(missing_ok=True)
    save_tensors(directory / WEIGHTS, {n: w.to(dtype) if w.is_floating_point() else w for n, w in weights.items()})
    shutil.copyfile(source / CONFIG, directory / CONFIG)
    write_manifest(directory)
    return directory


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors, on any device and in any layout, to a safetensors file."""
    safetensors.torch.save_file(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path
    )


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a safetensors file to the CPU."""
    return safetensors.torch.load_file(path, device="cpu")


def save_config(path: Path, config: Any) -> None:
    """Write a dataclass or a plain mapping as YAML."""
    node = OmegaConf.structured(config) if is_dataclass(config) else OmegaConf.create(config)
    OmegaConf.save(node, path)


def load_config_file(path: Path, config_cls: type) -> Any:
    """Read a YAML file as an instance of the dataclass ``config_cls``.

    Raises:
        CheckpointError: the file cannot be read, or has keys or values that the class does not take.
    """
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(config_cls), OmegaConf.load(path)))
    except Exception as error:
        raise CheckpointError(
            f"{path} does not describe a {config_cls.__name__}: {str(error).splitlines()[0]}"
        ) from error
