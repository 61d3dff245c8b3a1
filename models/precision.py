"""Models in the dtypes that their users name."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

TORCH_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bfloat16-kv8": torch.bfloat16,
    "int8": torch.bfloat16,
}
"""The dtype in which each of ``models.dtypes.PRIOR_DTYPES`` computes."""

ModelT = TypeVar("ModelT", bound=nn.Module)


def cast_for_inference(model: ModelT, dtype: str) -> ModelT:
    """Make ``model`` compute in ``dtype`` (see models.dtypes), and return it.

    A model with a method ``for_inference(dtype)`` is cast by that, which may keep layers in float32; another entirely.
    """
    own_cast = getattr(model, "for_inference", None)
    if own_cast is None:
        return model.to(TORCH_DTYPES[dtype])
    own_cast(dtype)
    return model
