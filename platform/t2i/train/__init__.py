"""Training: the tasks, the loop that trains any of them, and how Ray runs that loop."""

from t2i.train.checkpoint.run_directory import RunChangedError, RunDirectory
from t2i.train.config import TrainConfig
from t2i.train.fit import FitResult, fit, print_result

__all__ = [
    "FitResult",
    "RunChangedError",
    "RunDirectory",
    "TrainConfig",
    "fit",
    "print_result",
]
