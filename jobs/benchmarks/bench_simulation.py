"""Measure what the stages of a service cost, and compare it under loads with its simulation from these costs.

    python jobs/benchmarks/bench_simulation.py run=models/trained/small                          about 20 minutes
    python jobs/benchmarks/bench_simulation.py loads=[0.6] seconds=30 uncounted=10 rounds=1 asked=1 out=/tmp/costs.yaml

First the stages are measured in this process, then what gateways and progress cost in a service that is nearly idle;
nothing is fitted to the loads. Service and model then get the same requests at the same moments. Answers a second and
the seconds to an answer are to agree within 10 %. Costs and comparison are written to ``out``, from which
jobs/simulate_service.py plans. It wants a machine with nothing else to do, and a local Ray. All settings of a service
can be given as well (``prior.slots=32``).
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from harness import machine, medians, seconds
from locust_load import ANSWER, REFUSAL, replay
from models.run_sizes import run_sizes
from models.settings import setting
from process_time import LOOP, cpu_seconds, idle_rates
from stage_costs import busy_cores, decoder_costs, prior_costs, reranker_costs
from t2i.cluster import RayConfig, start_ray
from t2i.config import recorded, run_job
from t2i.protos.v1.decoder_pb2 import DecodeRequest
from t2i.protos.v1.decoder_pb2_grpc import DecoderStub
from t2i.protos.v1.generation_pb2 import GenerateRequest
from t2i.protos.v1.generation_pb2_grpc import GenerationStub
from t2i.protos.v1.prior_pb2 import TokenGrid
from t2i.serve.auto.settle import settled
from t2i.serve.config import ServeConfig
from t2i.serve.generation.image_codec import encode_image
from t2i.serve.launch import launch_service
from t2i.serve.replicas.batches import WAIT_S
from t2i.simulate.arrivals import Load
from t2i.simulate.costs import GatewayCosts, ServiceCosts
from t2i.simulate.measured import BAR, Check, MeasuredService, write_measured
from t2i.simulate.outcomes import Ended, Outcome, Seen
from t2i.simulate.service import MACHINE, Fleet
from t2i.simulate.simulation import Scenario, simulate

OUTCOMES = {ANSWER: Outcome.ANSWERED, REFUSAL: Outcome.REFUSED, "DEADLINE_EXCEEDED": Outcome.EXPIRED}


@dataclass
class BenchSimulation(ServeConfig):
    """The service, and the loads on it."""

    run: str = setting("models/trained/small", "run whose models are served", path="read")
    ray: RayConfig = setting(RayConfig, "the Ray cluster, which has to be local")
    port: int = setting(0, "port to listen on; 0 takes any free one", at_least=0, at_most=65535)
    loads: list[float] = setting(
        lambda: [0.3, 0.6, 0.9, 1.5], "requests a second, as parts of what the model says can be answered", above=0
    )
    candidates: int = setting(4, "images sampled for each request", at_least=1)
    captions: int = setting(100, "different captions that are asked for", at_least=1)
    seconds: float = setting(240.0, "seconds of each load that are counted", above=0)
    uncounted: float = setting(30.0, "seconds before them", at_least=0)
    deadline: float = setting(30.0, "deadline of a request, in seconds", above=0)
    rounds: int = setting(5, "timings of each stage; the median counts", at_least=1)
    asked: float = setting(30.0, "seconds of requests, one after the other, by which gateways are measured", above=0)
    seed: int = setting(0, "of the moments at which requests come", at_least=0)
    out: str = setting("jobs/benchmarks/measured_service.yaml", "file for what was measured", path="file")


def main(config: BenchSimulation) -> None:
    """Measure, compare, print both, and write the file."""
    start_ray(config.ray)
    config = replace(config, prior=settled(config).prior)
    print(f"{machine()}; {config.run}, {config.prior.settings}, {config.candidates} candidates a request")
    costs = stages_alone(config)
    cores = busy_cores(config, for_s=2.0 * config.rounds)
    print(f"busy cores at once: {cores:.2f}; {costs}")
    begin = time.perf_counter()
    with launch_service(config) as address:
        service = Idle(config, address)
        costs = replace(costs, start_s=time.perf_counter() - begin)
        costs, client = service.measure(costs)
        cores -= service.background
        print(f"background: {service.background:.2f} cores; {costs.gateway}, {client}")
        local = beside_client(costs, client)
        checks = [compare(config, address, local, cores, load) for load in rates(config, local, cores)]
    write_measured(MeasuredService(machine(), recorded(config)["run"], cores, costs, checks), config.out)
    print(f"written to {config.out}")


def stages_alone(config: BenchSimulation) -> ServiceCosts:
    """Return what the three stages cost in this process."""
    return ServiceCosts(
        prior=prior_costs(config, config.candidates, config.rounds),
        decoder=decoder_costs(config, config.rounds),
        reranker=reranker_costs(config, config.rounds),
    )


@dataclass(frozen=True)
class Client:
    """What asking costs the client, which is on the same machine: seconds for a request, and for each progress."""

    request_s: float
    progress_s: float


class Idle:
    """A service that answers one request at a time: what its processes cost beside the models' work."""

    def __init__(self, config: BenchSimulation, address: str) -> None:
        self._config, self._threads = config, config.prior.settings.threads
        self._channel = grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)])
        while self._health() != health_pb2.HealthCheckResponse.SERVING:
            time.sleep(0.2)
        self._ask(GenerateRequest(caption="warm up"))
        self._idle = idle_rates(self._threads, for_s=self._config.asked)
        self.background = self._idle.total()

    def measure(self, costs: ServiceCosts) -> tuple[ServiceCosts, Client]:
        """Return the costs with those of gateways and progress, and the client's.

        Requests for a whole image tell progress for long, those that continue all but a row hardly any: both cost the
        same otherwise.
        """
        sizes = run_sizes(self._config.run)
        image = encode_image(np.zeros((*sizes.image_size, 3), np.uint8), "png")
        long, told = self._spent(GenerateRequest(caption="taco"))
        short, told_less = self._spent(GenerateRequest(caption="taco", image=image, image_rows=sizes.grid[0] - 1))
        progress = {part: max(0.0, (long[part] - short[part]) / (told - told_less)) for part in long}
        request = {part: max(0.0, short[part] - progress[part] * told_less) for part in long}
        encode_s = seconds(lambda: encode_image(np.zeros((*sizes.image_size, 3), np.uint8), "png"), times=9)()
        gateway = GatewayCosts(request["gateway"], progress["gateway"], encode_s, self._hop(costs, encode_s))
        prior = replace(costs.prior, progress_s=progress[LOOP])
        return replace(costs, prior=prior, gateway=gateway), Client(request["client"], progress["client"])

    def _spent(self, request: GenerateRequest) -> tuple[Counter[str], float]:
        """Return the CPU seconds of each part for a request beyond idling, and how often progress is told."""
        begin, before, told = time.perf_counter(), cpu_seconds(self._threads), []
        while time.perf_counter() < begin + self._config.asked:
            told.append(self._ask(request))
        took, after = time.perf_counter() - begin, cpu_seconds(self._threads)
        spent = {part: after[part] - before[part] - took * self._idle[part] for part in after}
        return Counter({part: each / len(told) for part, each in spent.items()}), statistics.fmean(told)

    def _ask(self, request: GenerateRequest) -> int:
        """Ask for an image; return how often progress was told."""
        events = GenerationStub(self._channel).GenerateStream(request)
        return sum(event.HasField("progress") for event in events)

    def _hop(self, costs: ServiceCosts, encode_s: float) -> float:
        """Return what a call of a replica takes beyond its work: the part of a Decode that nothing else explains."""
        height, width = run_sizes(self._config.run).grid
        grid = TokenGrid(height=height, width=width, image_tokens=[0] * height * width)
        calls = {
            "decode": seconds(lambda: DecoderStub(self._channel).Decode(DecodeRequest(grids=[grid]))),
            "health": seconds(self._health),
        }
        took = medians(calls, 2 * self._config.rounds)
        return max(0.0, took["decode"] - took["health"] - WAIT_S - costs.decoder.batch_s - encode_s)

    def _health(self) -> int:
        check = health_pb2_grpc.HealthStub(self._channel).Check
        return check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60).status


def beside_client(costs: ServiceCosts, client: Client) -> ServiceCosts:
    """Return the costs on a machine where the client computes as well: as if gateways did its work."""
    gateway = costs.gateway
    gateway = replace(
        gateway,
        request_s=gateway.request_s + client.request_s,
        progress_s=gateway.progress_s + client.progress_s,
    )
    return replace(costs, gateway=gateway)


def rates(config: BenchSimulation, costs: ServiceCosts, cores: float) -> Iterator[tuple[str, Load]]:
    """Yield each load in words, and as the model knows it."""
    load = Load(
        rate=2 * costs.prior.images_per_second(config.candidates) / config.candidates,
        seconds=config.uncounted + config.seconds,
        uncounted=config.uncounted,
        candidates=config.candidates,
        keep=1,
        deadline=config.deadline,
        captions=config.captions,
    )
    most = simulate(Scenario(costs, fleet(config, cores), load)).answers_per_second
    for share in config.loads:
        yield f"{share:.0%} of {most:.3g} requests a second", replace(load, rate=share * most)


def fleet(config: BenchSimulation, cores: float) -> Fleet:
    """Return the service on this machine."""
    priors, decoders, rerankers = (each.initial_replicas for each in (config.prior, config.decoder, config.reranker))
    return Fleet(priors, decoders, rerankers, gateways=config.gateways, placement=MACHINE, cores=cores)


def compare(config: BenchSimulation, address: str, costs: ServiceCosts, cores: float, named: tuple[str, Load]) -> Check:
    """Ask service and model at the same moments; print and return what came of it."""
    words, load = named
    moments = list(load.moments(Random(config.seed)))
    simulated = simulate(Scenario(costs, fleet(config, cores), load, moments=moments, seed=config.seed)).all
    served = serve(config, address, load, moments)
    check = Check(
        words,
        len(served.arrived(load.uncounted, load.seconds).requests),
        figures(served, load),
        figures(simulated, load),
    )
    print(f"\n{words}: {check.requests} requests; the service, the model, the difference")
    names = "answers a second", "50 % of the answers, s", "95 %, s"
    for name, *numbers, difference in zip(names, check.service, check.model, check.differences, strict=True):
        missed = "" if abs(difference) <= BAR else f"  more than {BAR:.0%}"
        print(f"  {name:<26}" + "".join(f"{number:>8.3g}" for number in numbers) + f"{difference:>+8.1%}{missed}")
    for outcome in Outcome:
        print(f"  {outcome.value:<26}{served.share(outcome):>8.1%}{simulated.share(outcome):>8.1%}")
    return check


def serve(config: BenchSimulation, address: str, load: Load, moments: Sequence[float]) -> Seen:
    """Return what clients see of the service."""
    options = {"candidates": load.candidates, "deadline": load.deadline, "captions": config.captions}
    record = replay(address, moments, load.seconds + load.deadline + 60, **options)
    return Seen([Ended(moment, took, OUTCOMES.get(name, Outcome.FAILED)) for moment, took, name in record])


def figures(seen: Seen, load: Load) -> list[float]:
    """Return answers a second, and the seconds to 50 and 95 % of them."""
    counted = seen.arrived(load.uncounted, load.seconds)
    return [
        seen.answers_per_second(load.uncounted, load.seconds),
        *(counted.seconds_of(percent) for percent in (50, 95)),
    ]


if __name__ == "__main__":
    run_job(main, BenchSimulation, "bench_simulation")
