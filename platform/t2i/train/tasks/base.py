"""What the training loop needs to know about a model: its data, loss, validation, metrics and work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from models.errors import UserError
from t2i.train.config import TrainConfig
from t2i.train.noise import Noise
from t2i.train.optim.adamw import OptimizerConfig

Columns = dict[str, np.ndarray]
"""A data set, or a window of one, in memory: column name -> array over its rows."""

Batch = dict[str, Tensor]
"""Some rows as tensors: name -> tensor [B, ...]."""


@dataclass(frozen=True)
class Work:
    """The work of one update over all workers: ``count`` of ``unit`` (a plural), and the model's FLOPs if counted."""

    count: int
    unit: str = "images"
    flops: float | None = None


@dataclass(frozen=True)
class Headline:
    """A validation metric that stands for how good a model is."""

    metric: str
    higher_is_better: bool

    @property
    def sign(self) -> int:
        """1 or -1: the metric times this is greater for a better model."""
        return 1 if self.higher_is_better else -1


class Task(ABC):
    """A model with its data, loss, validation and metrics: all that is written to train another kind of model.

    A task is pickled and sent to the workers before training, so its attributes are configuration only: load or compute
    large things in :meth:`build` or :meth:`prepare`.
    """

    config: Any
    """The task's dataclass, saved beside the checkpoints; a resumed run is refused if a field of it has changed."""

    allows_microbatches = True
    """Whether the loss of a batch is the mean of the losses of its microbatches."""

    training_metrics: ClassVar[Mapping[str, str]] = {}
    """Scalars of :meth:`loss` to export to Prometheus, and what each means."""

    validation_metrics: ClassVar[Mapping[str, str]] = {}
    """Metrics of :meth:`validate` to export to Prometheus, and what each means."""

    @property
    @abstractmethod
    def headline(self) -> Headline:
        """The metric of :meth:`validate` by which the best checkpoint is chosen."""

    @property
    def overfitting_metric(self) -> Headline:
        """The metric of :meth:`validate` that is watched for overfitting."""
        return self.headline

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the headline metric as a number that is lower for a better checkpoint."""
        return -self.headline.sign * metrics[self.headline.metric]

    def check(self, config: TrainConfig) -> None:
        """Refuse a configuration that this task cannot be trained with.

        Raises:
            UserError: ``train.accumulate`` asks for microbatches of a loss that needs the whole batch.
        """
        if config.accumulate > 1 and not self.allows_microbatches:
            raise UserError(f"train.accumulate is {config.accumulate}: use 1, this loss compares all rows of a batch.")

    @property
    @abstractmethod
    def optimizer(self) -> OptimizerConfig:
        """AdamW's settings, the clipping norm and the EMA's decay."""

    @abstractmethod
    def lr(self, step: int) -> float:
        """Return the learning rate of the 0-based ``step``: a pure function, so resuming needs no scheduler state."""

    @abstractmethod
    def work(self, batch_size: int, recomputed: bool = False) -> Work:
        """Return the work of an update of ``batch_size`` images.

        The FLOPs are the model's (for MFU); ``recomputed`` adds the forward passes that activation checkpointing runs
        twice (for HFU), where they are counted.
        """

    @abstractmethod
    def build(self) -> nn.Module:
        """Return a freshly initialised model on the CPU, with its configuration as ``config``."""

    def prepare(self, columns: Columns, model: nn.Module) -> Columns:  # noqa: ARG002  for tasks that run data through it
        """Turn raw columns into those that :meth:`batch`, :meth:`validate` and :meth:`pictures` take.

        Called in every worker: once for each window of training data, before its first batch, and once for the
        validation data.
        """
        return columns

    @abstractmethod
    def batch(self, columns: Columns, rows: np.ndarray, noise: Noise | None = None) -> Batch:
        """Return rows int64 [B] of prepared columns as tensors on the CPU.

        ``noise`` is given in training only: then augment the rows with it. Called in a thread beside the training one.
        """

    def normalisers(self, batch: Batch) -> dict[str, float]:  # noqa: ARG002  for tasks that count something in it
        """Return the numbers, besides the number of rows, by which :meth:`loss` divides: name -> number in this batch.

        The loss finds each in its batch under the same name, averaged over all microbatches and workers. So the mean of
        their losses is the loss of the whole batch, however it is divided.
        """
        return {}

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, step: int, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss [] of ``batch``, which is on the model's device, and scalars [] to log by name."""

    def residual_blocks(self, model: nn.Module) -> list[nn.Module]:  # noqa: ARG002  for tasks whose model has blocks
        """Return the modules that FSDP shards one by one, and that activation checkpointing computes again."""
        return []

    @abstractmethod
    def validate(self, model: nn.Module, columns: Columns, batch_size: int) -> dict[str, float]:
        """Return metrics over all prepared validation columns; ``model`` is the EMA in eval mode."""

    def pictures(self, model: nn.Module, columns: Columns) -> dict[str, Tensor]:  # noqa: ARG002  for tasks that draw
        """Return pictures float [3, H, W] in [0, 1] by name, made from the prepared validation columns."""
        return {}


def row_batches(n: int, batch_size: int) -> list[np.ndarray]:
    """Return the row numbers 0 to n - 1 in order, int64, in arrays of at most ``batch_size``."""
    return np.split(np.arange(n), range(batch_size, n, batch_size))
