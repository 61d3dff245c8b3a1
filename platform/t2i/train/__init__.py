"""Training: tasks, the loop that trains any of them, and its fit to Ray."""

from t2i.train.checkpoint.run_directory import RunChanged, RunDirectory
from t2i.train.config import TrainConfig
from t2i.train.fit import FitResult, fit, print_result

__all__ = [
    "FitResult",
    "RunChanged",
    "RunDirectory",
    "TrainConfig",
    "fit",
    "print_result",
]
