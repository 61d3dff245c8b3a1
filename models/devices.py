"""The device on which models compute."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

import torch
from torch import nn

from models.errors import UserError


def default_device() -> str:
    """Return ``cuda`` if this process can use a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def require_gpu() -> None:
    """Check that this process can use a GPU, and compile for it as ``torch.compile`` does.

    Raises:
        UserError: there is no GPU, or no compiler.
    """
    if not torch.cuda.is_available():
        raise UserError(f"torch {torch.__version__} finds no GPU it can use: run this where `nvidia-smi` names one.")
    compilers = map(shutil.which, (os.environ.get("CC", "gcc"), "clang"))
    if not (any(compilers) and Path(sysconfig.get_path("include"), "Python.h").is_file()):
        raise UserError("torch.compile needs gcc and Python's headers: install them (apt-get install gcc python3-dev).")


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter; the others are on the same one."""
    return next(model.parameters()).device
