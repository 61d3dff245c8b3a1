"""How every configuration dataclass declares a field: its default beside its meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any


def setting(default: Any, meaning: str) -> Any:
    """Return a dataclass field with ``default`` (a value, or a factory for mutable ones) and a help text.

    ``python jobs/X.py --help`` prints the meaning; the type comes from the annotation.
    """
    metadata = {"help": meaning}
    if isinstance(default, Callable):  # type: ignore[arg-type]
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)
