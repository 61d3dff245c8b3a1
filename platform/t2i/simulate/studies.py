"""What a plan simulates: fleets of all sizes, too much load, other splits, a lost zone, a day and a burst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from t2i.serve.config import PriorReplicaConfig
from t2i.simulate.arrivals import Load
from t2i.simulate.costs import ServiceCosts
from t2i.simulate.fleets import Work, apart, capacity, fleet_of, together
from t2i.simulate.service import Fleet
from t2i.simulate.simulation import LostZone, Run, Scenario, simulate_all

COUNTED = 1500
"""Requests of a level load that are counted at least."""

OVERLOADED_GPUS, OVERLOADS = 4, (0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)
SPLIT_GPUS, SPLITS = 16, (1, 2, 3, 4, 5)
ZONE_GPUS, ZONE_LOADS = 9, (0.6, 0.85)
ZONE_LOST_S, ZONE_SECONDS = 40.0, 240.0
SCALED_GPUS = 8
LARGE = 128
"""Candidates of the requests of a day and of a burst, which are large so that they are few."""

Studies = Mapping[str, Mapping[Any, Scenario]]
"""Scenarios by what they vary, by the name of the study."""

Runs = Mapping[str, Mapping[Any, Run]]
"""What came of them."""


@dataclass(frozen=True)
class Planned:
    """The service that is planned: what its parts cost, and the requests that it is for."""

    costs: ServiceCosts
    request: Load
    seed: int = 0

    @property
    def work(self) -> Work:
        """The seconds that a request costs each stage."""
        return Work.of(self.costs, self.request.candidates, self.request.keep)

    def under(self, fleet: Fleet, load: float, **changes: float) -> Scenario:
        """Return a fleet under a share of the requests that it can answer."""
        request = replace(self.request, rate=load * capacity(fleet, self.work), **changes)  # type: ignore[arg-type]
        return Scenario(self.costs, fleet, request, seed=self.seed)

    def level(self, fleet: Fleet, load: float) -> Scenario:
        """Return the same, counted from when it has come to be level."""
        image_s = self.costs.prior.image_s(self.request.candidates)
        counted = max(image_s / 4, COUNTED / (load * capacity(fleet, self.work)))
        return self.under(fleet, load, uncounted=1.5 * image_s, seconds=1.5 * image_s + counted)


def studies(planned: Planned, sizes: Sequence[int], loads: Sequence[float], lost: LostZone) -> Studies:
    """Return all that a plan simulates."""
    return {
        "fleets": {(gpus, load): planned.level(fleet_of(gpus, planned.work), load) for gpus in sizes for load in loads},
        "overload": overload(planned),
        "splits": splits(planned),
        "zone": {load: lost_zone(planned, load, lost) for load in ZONE_LOADS},
        "scaling": scaling(planned),
    }


def overload(planned: Planned) -> dict[Any, Scenario]:
    """Return a fleet under more and more load, counted when the queue is as long as deadlines let it be."""
    fleet, deadline = fleet_of(OVERLOADED_GPUS, planned.work), planned.request.deadline
    return {load: planned.under(fleet, load, uncounted=2 * deadline, seconds=3 * deadline) for load in OVERLOADS}


def splits(planned: Planned) -> dict[Any, Scenario]:
    """Return GPUs that are shared out in different ways, each under more load than it can answer."""
    image_s = planned.costs.prior.image_s(planned.request.candidates)
    times = {"deadline": 4 * image_s, "uncounted": 6 * image_s, "seconds": 10 * image_s}
    return {behind: planned.under(apart(SPLIT_GPUS, behind, planned.work), 1.3, **times) for behind in SPLITS}


def lost_zone(planned: Planned, load: float, lost: LostZone) -> Scenario:
    """Return a fleet that loses a zone."""
    fleet = together(ZONE_GPUS, planned.work)
    scenario = planned.under(fleet, load, uncounted=ZONE_LOST_S / 2, seconds=ZONE_SECONDS)
    return replace(scenario, lost=replace(lost, at=ZONE_LOST_S))


def scaling(planned: Planned) -> dict[Any, Scenario]:
    """Return a day of three hours and a burst, each with all priors all the time and with as many as are wanted."""
    planned = replace(planned, request=replace(planned.request, candidates=LARGE))
    fleet = apart(SCALED_GPUS + 1, 1, planned.work)
    return {
        **_fixed_and_scaled("day", planned.under(fleet, 0.5, seconds=10800.0)),
        **_fixed_and_scaled("burst", planned.under(fleet, 0.2, seconds=2700.0)),
    }


def _fixed_and_scaled(shape: str, scenario: Scenario) -> dict[Any, Scenario]:
    """Return a load of a shape with the priors that there are, and with one at first and as many at most."""
    fixed = replace(scenario, load=replace(scenario.load, shape=shape, burst=4.0))
    scaled = replace(
        fixed,
        fleet=replace(fixed.fleet, priors=1),
        scaling=PriorReplicaConfig(max_replicas=fixed.fleet.priors),
    )
    return {(shape, False): fixed, (shape, True): scaled}


def run_studies(planned: Studies) -> Runs:
    """Return what comes of all scenarios."""
    runs = iter(simulate_all([scenario for study in planned.values() for scenario in study.values()]))
    return {name: {key: next(runs) for key in study} for name, study in planned.items()}
