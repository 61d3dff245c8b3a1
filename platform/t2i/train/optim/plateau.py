"""Halve the learning rate when the loss stops falling (paper, appendix B: the prior's was halved five times)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from models.settings import setting


@dataclass
class PlateauConfig:
    """When a loss counts as level. Off by default, since the tasks' schedules need no history of losses.

    The paper does not say how its authors recognised a plateau; smoothing, patience and threshold are our choice.
    """

    enabled: bool = setting(False, "halve the learning rate at plateaus of the loss, in addition to the schedule")
    smoothing: float = setting(
        0.99, "decay of the moving average of the losses; 0 for validation losses", at_least=0, below=1
    )
    patience: int = setting(100, "losses without a new best average before the learning rate is halved", at_least=1)
    threshold: float = setting(
        0.002, "an average is a new best if it is lower than the last best by this share", at_least=0, below=1
    )
    factor: float = setting(0.5, "factor by which a plateau multiplies the learning rate", above=0, below=1)
    halvings: int = setting(5, "how often the learning rate is halved at most", at_least=0)


@dataclass
class PlateauState:
    """The history of losses, in plain numbers: weighted total, best average, losses since it, halvings so far."""

    total: float = 0.0
    weight: float = 0.0
    best: float | None = None
    since: int = 0
    halved: int = 0


class Plateau:
    """Finds plateaus in the losses that it is given; the learning rate is to be multiplied by :attr:`factor`.

    The losses are training losses, smoothed here: unlike a validation metric there is one at every step, on every
    worker, and on new data, since large runs hardly see a pair twice. Every worker must observe the same ones, the
    means over workers. After a halving patience starts anew, but the best average stays: the lower rate has to beat it.
    """

    def __init__(self, config: PlateauConfig) -> None:
        self.config = config
        self._state = PlateauState()

    @property
    def factor(self) -> float:
        """What to multiply the learning rate by: ``config.factor`` to the power of the plateaus so far."""
        return self.config.factor**self._state.halved

    @property
    def average(self) -> float:
        """The moving average of the losses, without its bias towards 0 at the start."""
        return self._state.total / self._state.weight

    def observe(self, loss: float) -> bool:
        """Add one loss; return whether it completes a plateau. NaN and infinite losses are ignored."""
        if not math.isfinite(loss):
            return False
        state, config = self._state, self.config
        state.total = config.smoothing * state.total + (1 - config.smoothing) * loss
        state.weight = config.smoothing * state.weight + (1 - config.smoothing)
        state.since += 1
        if state.best is None or self.average < state.best - config.threshold * abs(state.best):
            state.best, state.since = self.average, 0
        level = state.since >= config.patience and state.halved < config.halvings
        if level:
            state.halved, state.since = state.halved + 1, 0
        return level

    def state_dict(self) -> dict[str, Any]:
        """Return the history as plain numbers (None for no best average yet), for JSON."""
        return asdict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._state = PlateauState(**state)
