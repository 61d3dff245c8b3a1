#!/usr/bin/env python
"""Simulate a service under load, from costs that were measured; or plan how many GPUs a load needs.

    python jobs/simulate_service.py load.rate=2 load.candidates=4              the machine that was measured
    python jobs/simulate_service.py fleet.placement=apart fleet.priors=16 load.rate=10
    python jobs/simulate_service.py plan out=docs                              capacity.md and its plots

jobs/benchmarks/bench_simulation.py measures the costs, and compares the model with the service.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import dataclass, replace

from models.settings import setting
from t2i.config import Command, run_job
from t2i.serve.config import PriorReplicaConfig
from t2i.simulate.arrivals import Load
from t2i.simulate.measured import MeasuredService, read_measured
from t2i.simulate.outcomes import Outcome
from t2i.simulate.plan import PlanConfig, write_plan
from t2i.simulate.service import MACHINE, Fleet
from t2i.simulate.simulation import LostZone, Run, Scenario, simulate


@dataclass
class SimulateService:
    """What is simulated."""

    measured: str = setting(
        "jobs/benchmarks/measured_service.yaml", "what bench_simulation.py measured on a machine", path="read"
    )
    load: Load = setting(Load, "the requests")
    fleet: Fleet = setting(lambda: Fleet(placement=MACHINE), "the replicas")
    max_priors: int | None = setting(
        None, "priors that the service may scale to, from fleet.priors on; empty: it does not scale", at_least=1
    )
    lost: LostZone = setting(LostZone, "a zone that is lost")
    seed: int = setting(0, "of arrivals and of all else that is random", at_least=0)

    def __post_init__(self) -> None:
        if self.max_priors and self.max_priors < self.fleet.priors:
            raise ValueError(
                f"max_priors is {self.max_priors}: use at least fleet.priors, which is {self.fleet.priors}."
            )


def main(config: SimulateService) -> None:
    """Print what clients would see."""
    report(simulate(scenario(config, read_measured(config.measured))))


def scenario(config: SimulateService, measured: MeasuredService) -> Scenario:
    """Return what the configuration describes, with the costs that were measured."""
    scaling = None
    if config.max_priors:
        scaling = PriorReplicaConfig(min_replicas=config.fleet.priors, max_replicas=config.max_priors)
    fleet = replace(config.fleet, cores=config.fleet.cores or measured.cores)
    return Scenario(measured.costs, fleet, config.load, config.lost, scaling, seed=config.seed)


def report(run: Run) -> None:
    """Print requests by what became of them, answers a second, and percentiles of the time to an answer."""
    seen = run.counted
    for outcome in Outcome:
        print(f"{outcome.value:<10}{seen.count(outcome):>8}  {seen.share(outcome):.1%}")
    print(f"{run.answers_per_second:.3g} answers a second")
    seconds = ", ".join(f"{seen.seconds_of(percent):.3g}" for percent in (50, 95, 99))
    print(f"50, 95, 99 % of the answers after {seconds} s")


def plan(config: PlanConfig) -> None:
    """Write the page and its plots, and print where the page is."""
    print(write_plan(config))


COMMANDS = [Command("plan", "what GPUs answer, how fast, and what they cost, as capacity.md", plan, PlanConfig)]

if __name__ == "__main__":
    run_job(main, SimulateService, "simulate_service", COMMANDS)
