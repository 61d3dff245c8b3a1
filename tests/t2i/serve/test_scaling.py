"""How many replicas the prior should have, from contexts made by hand; without a controller."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.serve.config import AutoscalingConfig

from t2i.serve.config import PriorReplicaConfig
from t2i.serve.scaling import IMAGES_PER_SLOT, by_outstanding_tokens


def context(recorded: list[float], replicas: int, requests: float = 1.0, target: int = 1) -> Any:
    metrics = {IMAGES_PER_SLOT: dict(enumerate(recorded))} if recorded else {}
    counts = {"current_num_replicas": replicas, "target_num_replicas": target, "total_num_requests": requests}
    return SimpleNamespace(aggregated_metrics=metrics, **counts)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (context([0.5, 0.5], 2), 1.0),  # two replicas whose slots are busy and nobody waits: one could do it
        (context([3.0], 1), 3.0),  # three images wait for each slot
        (context([3.0, 1.0], 2), 4.0),
        (context([3.0, 1.0], 3), 6.0),  # the third has not recorded anything yet
        (context([0.01], 1), 1.0),
        (context([0.0], 1, requests=0), 0.0),
        (context([], 0, requests=0), 0.0),
        (context([], 1, target=2), 2.0),
        (context([], 1, requests=0), 0.0),
    ],
)
def test_as_many_as_there_is_work_for(given: Any, wanted: float) -> None:
    assert by_outstanding_tokens(given) == (wanted, {})


def test_the_controller_can_load_the_policy() -> None:
    given = PriorReplicaConfig(min_replicas=0, max_replicas=2, idle_s=5).options()["autoscaling_config"]
    config = AutoscalingConfig.model_validate(given)
    assert (config.min_replicas, config.initial_replicas, config.downscale_delay_s) == (0, 1, 5)
    policy = cloudpickle.loads(cloudpickle.dumps(config.policy)).get_policy()
    assert policy(context([3.0], 1)) == (3.0, {})
