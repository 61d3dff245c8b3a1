"""The way of a request through a service, and the service's parts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Generator
from dataclasses import dataclass
from random import Random
from typing import Any

from simpy import Environment, Event, Resource, Store
from simpy.events import ProcessGenerator

from models.settings import setting
from t2i.engine.request import Request
from t2i.serve.generation.calls import ATTEMPTS
from t2i.serve.generation.generate import CHUNK
from t2i.serve.generation.ranking_time import RankingTime
from t2i.serve.messages import QueueFullError
from t2i.simulate.batches import BatchReplica
from t2i.simulate.costs import BatchCosts, ServiceCosts
from t2i.simulate.device import Device
from t2i.simulate.outcomes import Ended, Outcome, ReplicaLostError
from t2i.simulate.prior import PriorReplica
from t2i.simulate.stage import Stage

APART, TOGETHER, MACHINE = "apart", "together", "machine"
PLACEMENTS = (APART, TOGETHER, MACHINE)
PROGRESSES = 100
"""The most progresses that a request is told while it is sampled: one for each percent."""


@dataclass
class Fleet:
    """How many replicas there are, and what they compute on."""

    priors: int = setting(1, "replicas of the prior", at_least=1)
    decoders: int = setting(1, "replicas of the decoder", at_least=1)
    rerankers: int = setting(1, "replicas of the reranker", at_least=1)
    gateways: int = setting(2, "gateways, each of which has one core", at_least=1)
    placement: str = setting(
        APART,
        "apart: GPUs for priors, others for decoders with the rerankers beside them; together: every prior's GPU also "
        "has a decoder and a reranker; machine: all, gateways too, on the cores of one machine",
    )
    cores: float | None = setting(
        None, "of a machine: how many busy cores' work it does at once; empty: as many as were measured", above=0
    )

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS:
            raise ValueError(f"fleet.placement is {self.placement!r}: use {', '.join(PLACEMENTS[:-1])} or {MACHINE}.")


class Service:
    """Gateways and the three stages; ``ended`` gets every request when it ends."""

    def __init__(self, env: Environment, costs: ServiceCosts, fleet: Fleet, random: Random) -> None:
        self.ended: list[Ended] = []
        self._env, self._costs, self._random = env, costs, random
        self._ranking_time = RankingTime()
        devices = _Devices(env, fleet)
        self._gateways = [Gateway(env, devices.of_gateway()) for _ in range(fleet.gateways)]
        self.prior = Stage(
            env,
            lambda number: PriorReplica(env, costs.prior, devices.of_prior(number)),
            fleet.priors,
            costs.start_s,
            random,
        )
        self.decoder = self._batches(costs.decoder, fleet.decoders, devices)
        self.reranker = self._batches(costs.reranker, fleet.rerankers, devices)

    def answer(self, request: Request, keep: int) -> ProcessGenerator:
        """Answer a request, or not, and note how it ended."""
        arrived, outcome = self._env.now, Outcome.ANSWERED
        try:
            yield from self._work(request, keep)
            if self._env.now > request.deadline:
                outcome = Outcome.EXPIRED
        except QueueFullError:
            outcome = Outcome.REFUSED
        except TimeoutError:
            outcome = Outcome.EXPIRED
        except ReplicaLostError:
            outcome = Outcome.FAILED
        self.ended.append(Ended(arrived, self._env.now - arrived, outcome))

    def _work(self, request: Request, keep: int) -> ProcessGenerator:
        gateway, costs = self._random.choice(self._gateways), self._costs.gateway
        yield from gateway.work(costs.request_s)
        told = yield from self._sample_and_rank(request)
        yield from gateway.work(min(PROGRESSES, told) * costs.progress_s + keep * costs.image_s)

    def _sample_and_rank(self, request: Request) -> Generator[Event, Any, float]:
        """Sample, decode and rank all candidates, as they are finished; return how often progress was told."""
        ranking, known = [], 0
        for attempt in range(1, ATTEMPTS + 1):
            try:
                yield from self.prior.ready()
                yield self._env.timeout(self._costs.gateway.hop_s)
                replica = self.prior.choose()
                before, done = replica.told, 0
                finished = replica.sample(request, self._ranking_time.seconds)
                while done < request.candidates:
                    done += yield from _received(finished)
                    ranking += [self._env.process(self._rank(images)) for images in _chunks(done - known)]
                    known = max(known, done)
                told = replica.told - before
                break
            except ReplicaLostError:
                if attempt == ATTEMPTS:
                    raise
        sampled = self._env.now
        yield self._env.all_of(ranking)
        self._ranking_time.note(self._env.now - sampled)
        if not all(each.value for each in ranking):
            raise ReplicaLostError
        return told

    def _rank(self, images: int) -> Generator[Event, Any, bool]:
        """Decode and rank images of one request, again if a replica is lost; return whether that has been done."""
        for _ in range(ATTEMPTS):
            try:
                for stage in (self.decoder, self.reranker):
                    yield from stage.ready()
                    yield self._env.timeout(self._costs.gateway.hop_s)
                    yield stage.choose().compute(images)
                return True
            except ReplicaLostError:
                continue
        return False

    def _batches(self, costs: BatchCosts, replicas: int, devices: _Devices) -> Stage[BatchReplica]:
        return Stage(
            self._env,
            lambda number: BatchReplica(self._env, costs, devices.of_batches(number)),
            replicas,
            self._costs.start_s,
            self._random,
        )


class Gateway:
    """A process of one thread, which works for one request after the other."""

    def __init__(self, env: Environment, device: Device) -> None:
        self._device = device
        self._thread = Resource(env)

    def work(self, seconds: float) -> ProcessGenerator:
        """Work for so many seconds, when those before have been served."""
        with self._thread.request() as turn:
            yield turn
            yield from self._device.compute(seconds)


class _Devices:
    """What the replicas of a fleet compute on."""

    def __init__(self, env: Environment, fleet: Fleet) -> None:
        self._env, self._fleet = env, fleet
        self._machine = Device(env, fleet.cores or math.inf)
        self._shared: defaultdict[int, Device] = defaultdict(lambda: Device(env, 1.0))

    def of_gateway(self) -> Device:
        """Return the core of one more gateway."""
        return self._machine if self._fleet.placement == MACHINE else Device(self._env)

    def of_prior(self, number: int) -> Device:
        """Return the device of a prior."""
        match self._fleet.placement:
            case "machine":
                return self._machine
            case "together":
                return self._shared[number]
        return Device(self._env)

    def of_batches(self, number: int) -> Device:
        """Return the device of a decoder or a reranker."""
        if self._fleet.placement == MACHINE:
            return self._machine
        devices = self._fleet.priors if self._fleet.placement == TOGETHER else self._fleet.decoders
        return self._shared[number % devices]


def _received(finished: Store) -> Generator[Event, Any, int]:
    """Wait for what a prior hands out, and return the number of candidates; raise if it is an exception."""
    received: int | Exception = yield finished.get()
    if isinstance(received, Exception):
        raise received
    return received


def _chunks(images: int) -> list[int]:
    """Return the images of each call of decoder and reranker, for so many that are finished at once; none for none."""
    return [min(CHUNK, images - begin) for begin in range(0, images, CHUNK)]
