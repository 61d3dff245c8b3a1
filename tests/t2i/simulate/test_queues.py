"""Devices, priors and batches as the queues of the textbooks, whose mean times are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random
from statistics import fmean

import pytest
from simpy import Environment, Event
from simpy.events import ProcessGenerator

from t2i.engine.request import Request
from t2i.serve.replicas.batches import WAIT_S
from t2i.simulate.batches import BatchReplica
from t2i.simulate.costs import BatchCosts, PriorCosts
from t2i.simulate.device import Device
from t2i.simulate.prior import PriorReplica
from tests.t2i.simulate.conftest import NOTHING

CUSTOMERS = 20_000
Service = Callable[[int], Iterator[Event]]
"""How a customer is served, by its number."""


def mean_seconds(env: Environment, rate: float, serve: Service, customers: int = CUSTOMERS) -> float:
    """The mean time from arrival to end of customers who come at random moments."""
    random, seconds = Random(0), []

    def customer(number: int) -> ProcessGenerator:
        arrived = env.now
        yield from serve(number)
        seconds.append(env.now - arrived)

    def arrivals() -> ProcessGenerator:
        for number in range(customers):
            yield env.timeout(random.expovariate(rate))
            env.process(customer(number))

    env.process(arrivals())
    env.run()
    assert len(seconds) == customers
    return fmean(seconds)


def deterministic_wait(load: float, servers: int) -> float:
    """The mean wait of M/D/c in service times; of c > 1 by Cosmetatos's approximation, which is good to 1 %."""
    offered = load * servers
    all_busy = offered**servers / math.factorial(servers) / (1 - load)
    erlang_c = all_busy / (sum(offered**n / math.factorial(n) for n in range(servers)) + all_busy)
    exponential = erlang_c / (servers * (1 - load))
    correction = (1 - load) * (servers - 1) * (math.sqrt(4 + 5 * servers) - 2) / (16 * offered)
    return exponential / 2 * (1 + correction)


def prior(env: Environment, slots: int) -> PriorReplica:
    """A prior whose image takes a second, of a hundred steps."""
    return PriorReplica(env, PriorCosts(slots, image_tokens=100, step_s=0.01, prefill_s=0.0), Device(env))


@pytest.mark.parametrize(("slots", "load"), [(1, 0.5), (1, 0.8), (4, 0.8)])
def test_a_prior_is_a_queue_with_as_many_servers_as_slots(slots: int, load: float) -> None:
    env = Environment()
    replica = prior(env, slots)

    def serve(number: int) -> Iterator[Event]:
        yield replica.sample(Request(str(number), (number,), 1, seed=0)).get()

    seconds = mean_seconds(env, load * slots, serve)
    half_a_step = 0.005 * (slots > 1)  # until the step that others are in the middle of has ended
    assert seconds == pytest.approx(1 + half_a_step + deterministic_wait(load, slots), rel=0.05)


def test_a_batch_of_one_is_a_queue_with_one_server() -> None:
    env = Environment()
    replica = BatchReplica(env, BatchCosts(size=1, batch_s=NOTHING, image_s=1.0), Device(env))

    def serve(_: int) -> Iterator[Event]:
        yield replica.compute(1)

    assert mean_seconds(env, 0.7, serve) == pytest.approx(1 + deterministic_wait(0.7, 1), rel=0.05)


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_a_core_is_shared_out_among_computations(load: float) -> None:
    """The mean time in M/G/1 with processor sharing is S / (1 - load), whatever the distribution of S."""
    env = Environment()
    device, random = Device(env, 1.0), Random(1)

    def serve(_: int) -> Iterator[Event]:
        yield from device.compute(random.choice([0.5, 1.5]))

    assert mean_seconds(env, load, serve) == pytest.approx(1 / (1 - load), rel=0.05)


def test_a_batch_that_is_not_full_waits_for_others() -> None:
    env = Environment()
    replica = BatchReplica(env, BatchCosts(size=4, batch_s=1.0, image_s=0.25), Device(env))
    ends = []

    def call(images: int) -> ProcessGenerator:
        yield replica.compute(images)
        ends.append((images, env.now))

    for images in (3, 2, 4):
        env.process(call(images))
    env.run()
    # the first batch has 3 images and one of the second call, the next its other one and three of the third call
    assert ends == [(3, 2.0), (2, 4.0), (4, pytest.approx(5.25 + WAIT_S))]


def test_computations_that_fit_do_not_slow_each_other() -> None:
    env = Environment()
    device = Device(env, 2.0)
    ends = []

    def compute(seconds: float) -> ProcessGenerator:
        yield from device.compute(seconds)
        ends.append(env.now)

    for seconds in (1.0, 2.0, 4.0):
        env.process(compute(seconds))
    env.run()
    # three on two cores until the first ends after 1 / (2/3) s; the others then have 1 and 3 s to go at full speed
    assert ends == pytest.approx([1.5, 2.5, 4.5])
