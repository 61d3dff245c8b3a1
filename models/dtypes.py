"""The names of the dtypes in which a trained model can compute; without torch, for whoever only checks settings."""

from __future__ import annotations

from collections.abc import Collection

from models.errors import UserError

DTYPES = ("float32", "bfloat16")
"""What every model can compute in."""

PRIOR_DTYPES = (*DTYPES, "bfloat16-kv8", "int8")
"""What the prior can compute in; the last two compute in bfloat16.

With bfloat16-kv8 the text's keys and values are rounded to 8 bits, with int8 the weights are.
"""

DTYPE_MEANING = "float32, or bfloat16: faster on GPUs and on CPUs with AVX512-BF16 or AMX, slightly other results"
"""Help text of every ``dtype`` setting that does not offer int8."""

PRIOR_DTYPE_MEANING = (
    f"{DTYPE_MEANING}; bfloat16-kv8: the captions' keys and values in 8 bits too, for many captions at once; "
    "int8: the prior's weights in 8 bits, for up to about four slots on a CPU"
)
"""Help text of every ``dtype`` setting that offers int8."""

COMPILE_MEANING = "compile the decode step first: faster on a GPU, and with few slots"
"""Help text of every ``compile`` setting."""


def check_dtype(dtype: str, known: Collection[str] = DTYPES) -> None:
    """Check the name of a dtype.

    Raises:
        UserError: it is none of the ``known`` names.
    """
    if dtype not in known:
        raise UserError(f"dtype is {dtype!r}: use {' or '.join(known)}.")


def companion_dtype(dtype: str) -> str:
    """Return the dtype of dVAE and CLIP if the prior computes in ``dtype``: the same if possible, else bfloat16."""
    return dtype if dtype in DTYPES else "bfloat16"
