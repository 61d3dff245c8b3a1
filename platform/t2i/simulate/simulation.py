"""A run of the model: a load comes to a service, of which a part may be lost."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from random import Random

from simpy import Environment
from simpy.events import ProcessGenerator

from models.settings import setting
from t2i.engine.request import Request
from t2i.serve.config import PriorReplicaConfig
from t2i.simulate.arrivals import Load
from t2i.simulate.costs import ServiceCosts
from t2i.simulate.outcomes import Seen
from t2i.simulate.scaling import Autoscaler
from t2i.simulate.service import Fleet, Service


@dataclass
class LostZone:
    """A zone that is lost, with a share of the replicas of every stage."""

    at: float | None = setting(None, "seconds after which it is lost; empty: none is", at_least=0)
    zones: int = setting(3, "zones, over which replicas are spread evenly", at_least=2)
    noticed_s: float = setting(
        15.0, "seconds until Ray takes silent nodes for lost: five checks that fail, three seconds apart", at_least=0
    )
    replaced: bool = setting(True, "start other replicas in its place, in the zones that are left")


@dataclass(frozen=True)
class Scenario:
    """What is simulated.

    Attributes:
        scaling: bounds of the number of priors; None: it stays.
        moments: the seconds at which requests come; None: random ones, as ``load`` says.
    """

    costs: ServiceCosts
    fleet: Fleet
    load: Load
    lost: LostZone = field(default_factory=LostZone)
    scaling: PriorReplicaConfig | None = None
    moments: Sequence[float] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """What came of a load: all requests, and how many priors were held, each number with its second."""

    load: Load
    all: Seen
    priors: Sequence[tuple[float, int]]

    @property
    def counted(self) -> Seen:
        """The requests that came when they were counted."""
        return self.all.arrived(self.load.uncounted, self.load.seconds)

    @property
    def answers_per_second(self) -> float:
        """Answers a second while they were counted."""
        return self.all.answers_per_second(self.load.uncounted, self.load.seconds)


def simulate(scenario: Scenario) -> Run:
    """Return what comes of a scenario: the same for the same seed.

    Requests come until the end of the load, and all are followed to their end.
    """
    env = Environment()
    service = Service(env, scenario.costs, scenario.fleet, Random(f"service {scenario.seed}"))
    scaler = Autoscaler(env, service.prior, scenario.scaling) if scenario.scaling else None
    if scaler:
        env.process(scaler.run())
    if scenario.lost.at is not None:
        env.process(_lose(env, service, scenario.lost))
    env.run(env.process(_requests(env, service, scenario)))
    priors = scaler.history if scaler else [(0.0, scenario.fleet.priors)]
    return Run(scenario.load, Seen(service.ended), priors)


def simulate_all(scenarios: Sequence[Scenario]) -> list[Run]:
    """Return what comes of each scenario; they are run side by side on this machine's cores."""
    with ProcessPoolExecutor() as processes:
        return list(processes.map(simulate, scenarios))


def _requests(env: Environment, service: Service, scenario: Scenario) -> ProcessGenerator:
    """Let requests come; ends when all have ended."""
    load, random = scenario.load, Random(f"load {scenario.seed}")
    answers = []
    moments = load.moments(random) if scenario.moments is None else scenario.moments
    for number, moment in enumerate(moments):
        yield env.timeout(moment - env.now)
        request = _request(number, env.now, load, random)
        answers.append(env.process(service.answer(request, load.keep)))
    yield env.all_of(answers)


def _request(number: int, now: float, load: Load, random: Random) -> Request:
    caption = random.randrange(load.captions) if load.captions else number
    client = str(random.randrange(load.clients))
    return Request(str(number), (caption,), load.candidates, seed=0, deadline=now + load.deadline, client=client)


def _lose(env: Environment, service: Service, lost: LostZone) -> ProcessGenerator:
    """Lose the first of the zones, over which the replicas of each stage are dealt out in turn."""
    assert lost.at is not None
    yield env.timeout(lost.at)
    for stage in (service.prior, service.decoder, service.reranker):
        stage.lose(slice(0, None, lost.zones), lost.noticed_s, lost.replaced)
