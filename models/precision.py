"""The number formats that a trained model can compute in."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import torch
from torch import nn

from models.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PRIOR_DTYPES = DTYPES | {"int8": torch.int8}
"""The prior's weights can also be int8, with everything else in bfloat16 (see models.prior.decoding.packed)."""

DTYPE_MEANING = "float32, or bfloat16: faster on GPUs and on CPUs with AVX512-BF16 or AMX, slightly other results"
"""What the help of every ``dtype`` setting says."""

PRIOR_DTYPE_MEANING = f"{DTYPE_MEANING}; int8: the prior's weights rounded too, for up to about four slots on a CPU"

COMPILE_MEANING = "compile the decoding step first: pays on a GPU, and with few slots"
"""What the help of every ``compile`` setting says."""

ModelT = TypeVar("ModelT", bound=nn.Module)


def check_dtype(dtype: str, known: Collection[str] = DTYPES) -> None:
    """Refuse a ``dtype`` that a model does not compute in.

    Raises:
        UserError: it is not one of the ``known``.
    """
    if dtype not in known:
        raise UserError(f"dtype is {dtype!r}: use {' or '.join(known)}.")


def companion_dtype(dtype: str) -> str:
    """What dVAE and CLIP compute in where the prior has ``dtype``."""
    return dtype if dtype in DTYPES else "bfloat16"


def cast_for_inference(model: ModelT, dtype: torch.dtype) -> ModelT:
    """Make ``model`` compute in ``dtype``: by its own ``for_inference(dtype)``, which may spare layers, or wholly."""
    own = getattr(model, "for_inference", None)
    return own(dtype) if own else model.to(dtype)
