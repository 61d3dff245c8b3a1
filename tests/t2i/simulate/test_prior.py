"""A simulated prior beside the engine's own scheduler, which is stepped token by token."""

from __future__ import annotations

from random import Random
from statistics import fmean
from typing import Any

import pytest
from simpy import Environment
from simpy.events import ProcessGenerator

from t2i.engine.drafting import Drafting, Share
from t2i.engine.request import Request
from t2i.engine.scheduler import Scheduler
from t2i.serve.messages import QueueFullError
from t2i.simulate.costs import PriorCosts
from t2i.simulate.device import Device
from t2i.simulate.outcomes import ReplicaLostError
from t2i.simulate.prior import PriorReplica

SLOTS, TOKENS = 6, 10
COSTS = PriorCosts(SLOTS, TOKENS, step_s=1.0, prefill_s=0.0)


def requests(random: Random) -> list[tuple[int, Request]]:
    """Requests of three clients, each with the step in the middle of which it comes; there is always work."""
    times = sorted(random.choices(range(100), k=30))
    sizes = [random.randint(1, 9) for _ in times]
    first = (-1, Request("first", (0,), 80, seed=0, client="0"))
    return [first] + [
        (step, Request(f"{number}", (number,), candidates, seed=0, client=str(random.randrange(3))))
        for number, (step, candidates) in enumerate(zip(times, sizes, strict=True), start=1)
    ]


def ends_by_steps(coming: list[tuple[int, Request]]) -> dict[str, list[int]]:
    """The steps after which candidates of each request are finished, by the engine's scheduler."""
    scheduler, step = Scheduler(SLOTS, SLOTS, TOKENS), 0
    ends: dict[str, list[int]] = {request.id: [] for _, request in coming}
    waiting = list(coming)
    while waiting or scheduler.has_work:
        while waiting and waiting[0][0] < step:
            scheduler.add(waiting.pop(0)[1])
        scheduler.admit()
        for finished in scheduler.advance():
            ends[finished.request.id].append(step + 1)
        step += 1
    return ends


def ends_by_simulation(coming: list[tuple[int, Request]]) -> dict[str, list[float]]:
    env, ends = Environment(), dict[str, list[float]]()
    replica = PriorReplica(env, COSTS, Device(env))

    def follow(step: int, request: Request) -> ProcessGenerator:
        if step >= 0:
            yield env.timeout(step + 0.5)
        inbox, ends[request.id] = replica.sample(request), []
        while len(ends[request.id]) < request.candidates:
            finished = yield inbox.get()
            ends[request.id] += [env.now] * finished

    for step, request in coming:
        env.process(follow(step, request))
    env.run()
    return ends


@pytest.mark.parametrize("seed", range(5))
def test_candidates_end_when_the_engine_s_scheduler_ends_them(seed: int) -> None:
    coming = requests(Random(seed))
    simulated, stepped = ends_by_simulation(coming), ends_by_steps(coming)
    assert {name: pytest.approx(ends) for name, ends in stepped.items()} == simulated


def at(name: str, end: float) -> Any:
    """An event and its end, up to rounding."""
    return (name, pytest.approx(end))


def run_two(costs: PriorCosts, first: Request, second: Request, second_comes: float = 0.0) -> list[tuple[str, float]]:
    """The names and ends of two requests' events, in order."""
    env, events = Environment(), []
    replica = PriorReplica(env, costs, Device(env))

    def follow(request: Request, comes: float) -> ProcessGenerator:
        yield env.timeout(comes)
        try:
            inbox, left = replica.sample(request), request.candidates
        except QueueFullError:
            events.append((f"{request.id} refused", env.now))
            return
        while left:
            received = yield inbox.get()
            is_end = isinstance(received, Exception)
            left -= left if is_end else received
            events.append((f"{request.id} {type(received).__name__ if is_end else received}", env.now))

    env.process(follow(first, 0.0))
    env.process(follow(second, second_comes))
    env.run()
    return events


def test_a_caption_is_read_once_and_slows_every_step() -> None:
    costs = PriorCosts(4, 10, step_s=1.0, caption_s=0.5, prefill_s=3.0)
    same = run_two(costs, Request("a", (1,), 2, 0), Request("b", (1,), 2, 0))
    other = run_two(costs, Request("a", (1,), 2, 0), Request("b", (2,), 2, 0))
    assert same[0] == at("a 2", 3 + 10 * 1.5)
    assert other[0] == at("a 2", 6 + 10 * 2.0)


def test_slots_in_use_slow_every_step() -> None:
    costs = PriorCosts(8, 10, step_s=1.0, slot_s=0.25, prefill_s=0.0)
    events = run_two(costs, Request("a", (1,), 2, 0), Request("b", (1,), 4, 0), 7.5)
    # 5 steps with two slots, then 5 with six, then 5 with four
    assert events == [at("a 2", 5 * 1.5 + 5 * 2.5), at("b 4", 20.0 + 5 * 2.0)]


def test_progress_that_is_told_slows_steps() -> None:
    costs = PriorCosts(4, 10, step_s=1.0, prefill_s=0.0, progress_s=0.01)
    (told,) = run_two(costs, Request("a", (1,), 1, 0), Request("b", (2,), 1, 0, deadline=0.0))[-1:]
    assert told == at("a 1", 11.0)  # ten times a second


@pytest.mark.parametrize("running", [1, 2, 3, 5, 7, 8])
def test_a_step_makes_the_tokens_that_the_engine_s_drafts_make(running: int) -> None:
    shares = [0.8, 0.5, 0.25]
    drafts = Drafting(len(shares) + 1).deal(8 - running, [Share(100)] * running)
    made = fmean(1 + sum(shares[:count]) for count in drafts)
    assert PriorCosts(8, came_true=shares).tokens_of_step(running) == pytest.approx(made)


def test_idle_slots_draft_while_there_are_any() -> None:
    costs = PriorCosts(4, 10, step_s=1.0, prefill_s=0.0, came_true=[1.0, 0.5])
    events = run_two(costs, Request("a", (1,), 1, 0), Request("b", (1,), 3, 0), 2.0)
    # two steps of 2.5 tokens, then five with all slots in use, then the other five tokens of b with one idle slot
    assert events == [at("a 1", 2.0 + 5.0), at("b 3", 7.0 + 5 / (1 + 1 / 3))]


def test_a_request_that_idle_slots_speed_up_is_not_refused() -> None:
    first, second = Request("a", (1,), 1, 0), Request("b", (2,), 1, 0, deadline=500.0)
    slow, fast = (PriorCosts(8, 1000, step_s=1.0, prefill_s=0.0, came_true=shares) for shares in ([], [1.0] * 3))
    assert ("b refused", 100.0) in run_two(slow, first, second, 100.0)
    assert ("b refused", 100.0) not in run_two(fast, first, second, 100.0)


def test_what_cannot_meet_its_deadline_is_refused_at_once() -> None:
    first = Request("a", (1,), 2 * SLOTS, 0)
    late, early = Request("b", (2,), 1, 0, deadline=20.0), Request("b", (2,), 1, 0, deadline=60.0)
    assert ("b refused", 1.0) in run_two(COSTS, first, late, 1.0)
    assert ("b refused", 1.0) not in run_two(COSTS, first, early, 1.0)


def test_what_is_here_is_judged_by_its_progress() -> None:
    first, second = Request("a", (1,), SLOTS, 0), Request("b", (2,), SLOTS, 0, deadline=9.0 + 1.25 * 11 + 0.1)
    assert run_two(COSTS, first, second, 9.0)[-1] == (f"b {SLOTS}", 20.0)  # one step of the first is left


def test_a_request_ends_at_its_deadline() -> None:
    first = Request("a", (1,), 2 * SLOTS, 0, deadline=15.0)  # an idle engine tries, however little time there is
    second = Request("b", (2,), SLOTS, 0)  # as much is left of the first, which is older
    assert run_two(COSTS, first, second, 1.0) == [("a 6", 10.0), ("a TimeoutError", 20.0), ("b 6", 30.0)]


def test_what_is_lost_is_told_to_all_after_a_while() -> None:
    env, received = Environment(), []
    replica = PriorReplica(env, COSTS, Device(env))
    inboxes = [replica.sample(Request(name, (0,), SLOTS, 0)) for name in "ab"]

    def follow(number: int) -> ProcessGenerator:
        got = yield inboxes[number].get()
        received.append((type(got), env.now))

    def lose() -> ProcessGenerator:
        yield env.timeout(4.0)
        replica.lose(noticed_s=3.0)

    for process in (follow(0), follow(1), lose()):
        env.process(process)
    env.run()
    assert received == [(ReplicaLostError, 7.0)] * 2
    assert replica.ongoing == 0
