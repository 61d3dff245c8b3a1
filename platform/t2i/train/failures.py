"""Which failures of workers are worth another start: those that may not come again."""

from __future__ import annotations

from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError


class StepFailedError(Exception):
    """A step raised an error that the user cannot correct; ``step`` is None before the first, ``kind`` its class."""

    def __init__(self, step: int | None, kind: str, message: str) -> None:
        super().__init__(step, kind, message)
        self.step, self.kind, self.message = step, kind, message

    def __str__(self) -> str:
        place = "before the first step" if self.step is None else f"in step {self.step + 1}"
        return f"{self.kind} {place}: {self.message}"


class RetryUnlessRepeated(DefaultFailurePolicy):
    """Starts the workers again as Ray does, but not after an error of the same class in the same step as the last one.

    A lost worker makes the others fail, too: where any was lost, no error counts.
    """

    def __init__(self, failure_config: FailureConfig) -> None:
        super().__init__(failure_config)
        self._last: set[tuple[int | None, str]] = set()

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        """Return whether to start the workers again, or to end the run with this error."""
        errors = {(error.step, error.kind) for error in step_errors(training_failed_error)}
        repeated, self._last = bool(errors & self._last), errors
        return FailureDecision.RAISE if repeated else super().make_decision(training_failed_error)


def step_errors(failure: TrainingFailedError) -> list[StepFailedError]:
    """Return the errors that steps raised; none if a worker was lost."""
    errors = failure.worker_failures.values() if isinstance(failure, WorkerGroupError) else []
    failed = [error for error in errors if isinstance(error, StepFailedError)]
    return failed if len(failed) == len(errors) else []
