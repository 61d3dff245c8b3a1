"""The prior's autoscaling: the service's policy and Serve's delays, called as Serve's controller calls them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean
from types import SimpleNamespace
from typing import Any, cast

from ray.serve.autoscaling_policy import _apply_delay_logic
from ray.serve.config import AutoscalingConfig, AutoscalingContext
from simpy import Environment
from simpy.events import ProcessGenerator

from t2i.serve.config import PriorReplicaConfig
from t2i.serve.scaling import IMAGES_PER_SLOT, by_outstanding_tokens
from t2i.simulate.prior import PriorReplica
from t2i.simulate.stage import Stage


@dataclass
class Autoscaler:
    """Changes how many priors are wanted; ``history`` has how many were held, each number with its second."""

    env: Environment
    stage: Stage[PriorReplica]
    bounds: PriorReplicaConfig
    history: list[tuple[float, int]] = field(default_factory=list)

    def run(self) -> ProcessGenerator:
        """Decide again and again; begin it as a process of the environment."""
        config = AutoscalingConfig.model_validate(self.bounds.options()["autoscaling_config"])
        recorded: deque[dict[PriorReplica, float]] = deque(
            maxlen=math.ceil(config.look_back_period_s / config.metrics_interval_s)
        )
        state: dict[str, Any] = {}
        while True:
            self.history.append((self.env.now, self.stage.held))
            yield self.env.timeout(config.metrics_interval_s)
            recorded.append({replica: replica.images_per_slot for replica in self.stage.replicas})
            wanted, _ = by_outstanding_tokens(self._context(recorded))
            now, target = self.env.now, self.stage.target
            decided, state = _apply_delay_logic(math.ceil(wanted), target, config, state, now)
            self.stage.scale_to(min(max(decided, config.min_replicas), config.max_replicas))

    def _context(self, recorded: deque[dict[PriorReplica, float]]) -> AutoscalingContext:
        """Return what the policy reads of the context that Serve's controller hands it."""
        replicas = self.stage.replicas
        series = {replica: [each[replica] for each in recorded if replica in each] for replica in replicas}
        context = SimpleNamespace(
            aggregated_metrics={IMAGES_PER_SLOT: {replica: fmean(each) for replica, each in series.items() if each}},
            current_num_replicas=len(replicas),
            target_num_replicas=self.stage.target,
            total_num_requests=sum(replica.ongoing for replica in replicas),
        )
        return cast(AutoscalingContext, context)
