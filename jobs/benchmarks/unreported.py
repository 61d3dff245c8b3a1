"""Training that nobody watches, so that nothing but its steps is timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn


class NullReporter:
    """A Reporter that reports nothing, and has no checkpoint to resume from."""

    def newest_checkpoint(self) -> Path | None:
        """Return none."""
        return None

    def begin(self, step: int) -> None:
        """Do nothing."""

    def step(self, step: int, seconds: float, waited: float) -> None:
        """Do nothing."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def validation(self, step: int, metrics: Mapping[str, float], pictures: Mapping[str, Tensor]) -> None:
        """Do nothing."""

    def checkpoint(self, step: int, writers: int, write: Callable[[Path], None]) -> None:
        """Do nothing."""

    def finish(self, model: nn.Module | None, metrics: Mapping[str, float]) -> None:
        """Do nothing."""
