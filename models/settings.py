"""How configuration dataclasses declare their fields: each default together with its help text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any


def setting(default: Any, meaning: str) -> Any:
    """Return a dataclass field with a ``default``, a value or a factory, and the help text ``meaning``.

    ``python jobs/X.py --help`` prints it.
    """
    metadata = {"help": meaning}
    if isinstance(default, Callable):  # type: ignore[arg-type]
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)
