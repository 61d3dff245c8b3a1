"""The dtypes in which a trained model can compute."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import torch
from torch import nn

from models.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The dtypes in which every model can compute, by name."""
PRIOR_DTYPES = DTYPES | {"int8": torch.int8}
"""The dtypes of the prior, by name: with int8, weights are rounded to 8 bits and the computation is in bfloat16."""

DTYPE_MEANING = "float32, or bfloat16: faster on GPUs and on CPUs with AVX512-BF16 or AMX, slightly other results"
"""Help text of every ``dtype`` setting that does not offer int8."""

PRIOR_DTYPE_MEANING = f"{DTYPE_MEANING}; int8: the prior's weights rounded too, for up to about four slots on a CPU"
"""Help text of every ``dtype`` setting that offers int8."""

COMPILE_MEANING = "compile the decode step first: faster on a GPU, and with few slots"
"""Help text of every ``compile`` setting."""

ModelT = TypeVar("ModelT", bound=nn.Module)


def check_dtype(dtype: str, known: Collection[str] = DTYPES) -> None:
    """Check the name of a dtype.

    Raises:
        UserError: it is none of the ``known`` names.
    """
    if dtype not in known:
        raise UserError(f"dtype is {dtype!r}: use {' or '.join(known)}.")


def companion_dtype(dtype: str) -> str:
    """Return the dtype of dVAE and CLIP if the prior computes in ``dtype``: the same, but bfloat16 for int8."""
    return dtype if dtype in DTYPES else "bfloat16"


def cast_for_inference(model: ModelT, dtype: torch.dtype) -> ModelT:
    """Make ``model`` compute in ``dtype``, and return it.

    A model with a method ``for_inference(dtype)`` is cast by that, which may keep layers in float32; another entirely.
    """
    own_cast = getattr(model, "for_inference", None)
    if own_cast is None:
        return model.to(dtype)
    own_cast(dtype)
    return model
