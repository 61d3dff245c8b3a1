"""Which stages answer, from states of Serve made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.serve.schema import (  # type: ignore[attr-defined]  # the module does not list all of them in __all__
    ApplicationStatus,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ReplicaState,
)

from t2i.serve.gateway import running_stages


@pytest.mark.parametrize(
    ("status", "states", "answers"),
    [
        ("UPDATING", {"STARTING": 1}, False),
        ("UNHEALTHY", {"STARTING": 1}, False),
        ("UNHEALTHY", {"RUNNING": 1, "STARTING": 1}, True),
        ("HEALTHY", {}, True),  # the autoscaler has left none, since nobody asks
        ("UPSCALING", {"STARTING": 1}, True),
    ],
)
def test_a_stage_that_sleeps_answers(
    monkeypatch: pytest.MonkeyPatch, status: str, states: dict[str, int], answers: bool
) -> None:
    counts = {ReplicaState(name): count for name, count in states.items()}
    deployment = DeploymentStatusOverview(DeploymentStatus(status), DeploymentStatusTrigger.UNSPECIFIED, counts, "")
    application = SimpleNamespace(status=ApplicationStatus.RUNNING, deployments={"prior": deployment})
    monkeypatch.setattr("ray.serve.status", lambda: SimpleNamespace(applications={"app": application}))
    assert running_stages({"tiny": "app"}) == {"tiny": {"prior"} if answers else set()}
