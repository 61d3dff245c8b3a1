"""What the loop needs to know of the thing it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from models.errors import UserError
from t2i.train.config import TrainConfig
from t2i.train.noise import Noise
from t2i.train.optim.adamw import OptimizerConfig

Columns = dict[str, np.ndarray]
"""A whole data set in memory: column name -> array over its rows."""

Batch = dict[str, Tensor]
"""One worker's share of a step, first dimension B."""


class Task(ABC):
    """A model, its data, its loss and its validation; it runs inside each worker.

    A task is sent to the workers before training, so it holds configuration only: build what is heavy in
    :meth:`build` or :meth:`prepare`.
    """

    config: Any
    """The task's dataclass; written beside the checkpoints, and compared with them on resuming."""

    divisible = True
    """Whether the loss of a batch is the mean of the losses of its parts."""

    def check(self, config: TrainConfig) -> None:
        """Refuse what this task cannot be trained with.

        Raises:
            UserError: ``train.accumulate`` divides what has to stay together.
        """
        if config.accumulate > 1 and not self.divisible:
            raise UserError(f"train.accumulate is {config.accumulate}: use 1, this loss compares all rows of a batch.")

    @property
    @abstractmethod
    def optimizer(self) -> OptimizerConfig:
        """AdamW's settings, the clipping norm and the EMA's decay."""

    @abstractmethod
    def lr(self, step: int) -> float:
        """The learning rate of the 0-based ``step``: a pure function, so that resuming needs no scheduler state."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The freshly initialised model, on the CPU, with its ``config``."""

    def prepare(self, columns: Columns, model: nn.Module) -> Columns:
        """Columns in the form :meth:`batch` and :meth:`validate` take; once per worker and data set, before step 0."""
        return columns

    @abstractmethod
    def batch(self, columns: Columns, rows: np.ndarray, noise: Noise | None = None) -> Batch:
        """Rows int64 [B] of prepared columns -> tensors on the CPU; with ``noise`` for training, augmented.

        Called in a thread beside the training one.
        """

    def normalisers(self, batch: Batch) -> dict[str, float]:
        """What :meth:`loss` divides by, other than the number of rows: names and this batch's numbers.

        The loss finds under each name in its batch the mean of those numbers over all micro-batches and workers, so
        that their mean loss is the loss of the whole batch, however it was divided.
        """
        return {}

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, step: int, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar loss of ``batch`` (on the model's device) and scalars to log."""

    def residual_blocks(self, model: nn.Module) -> list[nn.Module]:
        """The modules that are sharded, and whose activations are computed again, one at a time."""
        return []

    @abstractmethod
    def validate(self, model: nn.Module, columns: Columns, batch_size: int) -> dict[str, float]:
        """Metrics over all of the prepared validation columns; ``model`` is the EMA in eval mode."""

    @abstractmethod
    def score(self, metrics: Mapping[str, float]) -> float:
        """Of what :meth:`validate` gives, a number of which the best checkpoint has the least."""

    def pictures(self, model: nn.Module, columns: Columns) -> dict[str, Tensor]:
        """Name -> picture float [3, H, W] in [0, 1], made of the prepared validation columns."""
        return {}


def row_batches(n: int, batch_size: int) -> list[np.ndarray]:
    """Rows 0 .. n - 1 in order, in parts of at most ``batch_size``."""
    return np.split(np.arange(n), range(batch_size, n, batch_size))
