"""Which failures of workers are retried."""

from __future__ import annotations

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import WorkerGroupError

from t2i.train.failures import RetryUnlessRepeated, StepFailedError

LOST = WorkerHealthCheckFailedError("lost", ActorDiedError())
AT_5 = StepFailedError(5, "ValueError", "a bad row")


@pytest.mark.parametrize(
    ("failures", "ends"),
    [
        ([[AT_5], [AT_5]], True),
        ([[AT_5], [StepFailedError(5, "ValueError", "a bad row at 0x7f")]], True),
        ([[AT_5, StepFailedError(4, "RuntimeError", "connection closed")], [AT_5]], True),
        ([[StepFailedError(None, "KeyError", "")], [StepFailedError(None, "KeyError", "")]], True),
        ([[AT_5], [StepFailedError(9, "ValueError", "a bad row")]], False),
        ([[AT_5], [StepFailedError(5, "OSError", "")]], False),
        ([[AT_5], [LOST], [AT_5]], False),
        ([[LOST], [LOST], [LOST]], False),
        ([[LOST, AT_5], [LOST, AT_5]], False),
    ],
)
def test_the_same_error_at_the_same_step_ends_a_run_and_lost_workers_do_not(
    failures: list[list[Exception]], ends: bool
) -> None:
    policy = RetryUnlessRepeated(FailureConfig(max_failures=100))
    decisions = [policy.make_decision(WorkerGroupError("", dict(enumerate(errors)))) for errors in failures]
    assert decisions[:-1] == [FailureDecision.RETRY] * (len(failures) - 1)
    assert decisions[-1] == (FailureDecision.RAISE if ends else FailureDecision.RETRY)


def test_max_failures_still_holds() -> None:
    policy = RetryUnlessRepeated(FailureConfig(max_failures=1))
    decisions = [policy.make_decision(WorkerGroupError("", {0: LOST})) for _ in range(2)]
    assert decisions == [FailureDecision.RETRY, FailureDecision.RAISE]


def test_the_error_says_where_it_came_and_survives_its_way_to_the_driver() -> None:
    copy = cloudpickle.loads(cloudpickle.dumps(AT_5))
    assert str(copy) == "ValueError in step 6: a bad row"
    assert str(StepFailedError(None, "KeyError", "x")) == "KeyError before the first step: x"
