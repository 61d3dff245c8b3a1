"""A whole service: nothing is lost or made up, and it can do what its slowest stage can."""

from __future__ import annotations

from dataclasses import replace

import pytest

from t2i.serve.config import PriorReplicaConfig
from t2i.simulate.costs import BatchCosts, GatewayCosts, ServiceCosts
from t2i.simulate.outcomes import Outcome
from t2i.simulate.service import APART, MACHINE, TOGETHER, Fleet
from t2i.simulate.simulation import LostZone, Run, Scenario, simulate, simulate_all
from tests.t2i.simulate.conftest import NOTHING, costs, load

FLEET = Fleet(priors=6, decoders=3, rerankers=3, gateways=3)
CAPACITY = 60.0
"""Images a second of six priors."""


def run(rate: float, seconds: float = 40.0, fleet: Fleet = FLEET, seed: int = 0, **settings: object) -> Run:
    return simulate(Scenario(costs(), fleet, load(rate, seconds, **settings), seed=seed))


@pytest.mark.parametrize("candidates", [1, 5, 40])
def test_every_request_ends_in_one_way(candidates: int) -> None:
    wanted = load(3 * CAPACITY / candidates, 30.0, candidates=candidates, deadline=8.0)
    moments = [0.1 * number for number in range(300)]
    lost = LostZone(at=10.0, noticed_s=2.0)
    seen = simulate(Scenario(costs(), FLEET, wanted, lost, moments=moments)).all
    assert sum(seen.count(outcome) for outcome in Outcome) == len(seen.requests) == len(moments)
    assert sorted(each.arrived for each in seen.requests) == pytest.approx(moments)


def test_overload_is_refused_and_what_is_answered_is_in_time() -> None:
    seen = run(3 * CAPACITY, deadline=5.0).all
    assert seen.share(Outcome.REFUSED) > 0.5
    assert seen.share(Outcome.ANSWERED) + seen.share(Outcome.REFUSED) == 1.0
    assert max(each.seconds for each in seen.requests if each.outcome is Outcome.ANSWERED) <= 5.0
    assert max(each.seconds for each in seen.requests if each.outcome is Outcome.REFUSED) < 0.1


def test_the_seed_decides() -> None:
    assert run(40.0, seed=1).all == run(40.0, seed=1).all
    assert run(40.0, seed=1).all != run(40.0, seed=2).all


def test_scenarios_side_by_side_give_what_they_give_alone() -> None:
    scenarios = [Scenario(costs(), FLEET, load(20.0, 5.0), seed=seed) for seed in (3, 4)]
    assert simulate_all(scenarios) == [simulate(scenario) for scenario in scenarios]


@pytest.mark.parametrize(
    ("slowest", "most"),
    [
        (costs(), CAPACITY),
        (costs(decoder=BatchCosts(8, batch_s=0.4, image_s=0.05)), 3 * 10.0),
        (costs(reranker=BatchCosts(4, batch_s=0.2)), 3 * 20.0),
    ],
    ids=["prior", "decoder", "reranker"],
)
def test_too_much_load_gets_what_the_slowest_stage_can(slowest: ServiceCosts, most: float) -> None:
    scenario = Scenario(slowest, FLEET, load(1.5 * most, 60.0, uncounted=20.0))
    assert simulate(scenario).answers_per_second == pytest.approx(most, rel=0.05)


def test_gateways_work_for_one_request_after_the_other() -> None:
    gateway = GatewayCosts(request_s=0.1, progress_s=0.0, image_s=0.1, hop_s=0.0)
    by_load = [simulate(Scenario(costs(gateway=gateway), FLEET, load(rate, 60.0))) for rate in (7.5, 13.5)]
    assert [run.answers_per_second for run in by_load] == pytest.approx([7.5, 13.5], rel=0.1)  # of 15
    little, much = (run.counted.seconds_of(50) - 0.8 - 0.2 for run in by_load)
    assert little < 0.2 < much


def test_requests_share_the_progresses_of_their_replica() -> None:
    gateway = GatewayCosts(request_s=0.0, progress_s=0.01, image_s=0.0, hop_s=0.0)
    fleet = Fleet(priors=1, decoders=1, rerankers=1, gateways=1)
    runs = [Scenario(costs(gateway=gateway), fleet, load(1.0, 1.0), moments=[0.0] * n) for n in (1, 8)]
    one, eight = (simulate(scenario).all.seconds_of(100) for scenario in runs)
    # 10 progresses a second, for 0.8 s, take the gateway 10 ms each afterwards, however many requests share them
    assert (one, eight) == pytest.approx((0.8 + 0.08, 0.8 + 0.08), abs=0.02)


@pytest.mark.parametrize("candidates", [1, 4])
def test_stages_on_one_device_share_it(candidates: int) -> None:
    fleet = Fleet(2, 2, 2, gateways=2, placement=TOGETHER)
    half = BatchCosts(8, batch_s=NOTHING, image_s=0.05)  # of the prior's seconds for an image
    each = costs(decoder=half, reranker=half)
    wanted = load(30.0 / candidates, 80.0, uncounted=40.0, candidates=candidates, deadline=10.0)
    answered = simulate(Scenario(each, fleet, wanted)).answers_per_second
    assert candidates * answered == pytest.approx(2 / (1 / 10 + 1 / 20 + 1 / 20), rel=0.1)


def test_a_machine_s_cores_are_shared_by_all() -> None:
    fleet = Fleet(1, 1, 1, gateways=1, placement=MACHINE, cores=1.5)
    decoder = BatchCosts(1, batch_s=0.1)  # as many seconds of a core as the prior has for an image
    wanted = load(12.0, 80.0, uncounted=40.0)
    assert simulate(Scenario(costs(decoder=decoder), fleet, wanted)).answers_per_second == pytest.approx(7.5, rel=0.05)


def test_a_lost_zone_takes_its_share_of_the_capacity() -> None:
    wanted = load(1.5 * CAPACITY, 120.0)
    lost = LostZone(at=60.0, zones=3, noticed_s=1.0, replaced=False)
    seen = simulate(Scenario(costs(), FLEET, wanted, lost)).all
    assert seen.answers_per_second(10.0, 60.0) == pytest.approx(CAPACITY, rel=0.05)
    assert seen.answers_per_second(70.0, 120.0) == pytest.approx(CAPACITY * 2 / 3, rel=0.05)


def test_a_lost_zone_is_replaced() -> None:
    wanted = load(1.5 * CAPACITY, 140.0)
    seen = simulate(Scenario(costs(), FLEET, wanted, LostZone(at=40.0, noticed_s=1.0))).all
    assert seen.answers_per_second(45.0, 60.0) == pytest.approx(CAPACITY * 2 / 3, rel=0.05)
    assert seen.answers_per_second(70.0, 140.0) == pytest.approx(CAPACITY, rel=0.05)


def test_requests_of_a_lost_zone_are_answered_by_others_later() -> None:
    wanted = load(0.3 * CAPACITY, 60.0)
    before = simulate(Scenario(costs(), FLEET, wanted))
    after = simulate(Scenario(costs(), FLEET, wanted, LostZone(at=30.0, noticed_s=5.0)))
    assert after.all.share(Outcome.ANSWERED) == 1.0
    assert 5.0 < after.all.seconds_of(100) - before.all.seconds_of(100) < 7.0


def test_without_replicas_requests_wait_for_one() -> None:
    fleet = Fleet(priors=1, decoders=1, rerankers=1)
    scenario = Scenario(costs(), fleet, load(1.0, 30.0), LostZone(at=10.0, noticed_s=0.0), moments=[11.0])
    (ended,) = simulate(scenario).all.requests
    assert ended.outcome is Outcome.ANSWERED
    assert ended.seconds == pytest.approx(costs().start_s - 1.0 + 0.8, abs=0.1)


def test_more_load_takes_longer_and_more_priors_less_long() -> None:
    by_load = [run(share * CAPACITY).counted.seconds_of(95) for share in (0.5, 0.8, 0.95, 1.1)]
    assert by_load == sorted(by_load)
    by_priors = [run(50.0, fleet=replace(FLEET, priors=n)).counted.seconds_of(95) for n in (8, 6, 5)]
    assert by_priors == sorted(by_priors)


def test_priors_come_with_a_burst_and_go_after_it() -> None:
    burst = load(6.0, 1200.0, shape="burst", burst=6.0, burst_begin=0.1, burst_part=0.4)
    bounds = PriorReplicaConfig(min_replicas=1, max_replicas=6, idle_s=60.0)
    fleet = Fleet(priors=1, decoders=3, rerankers=3, gateways=3)
    held = simulate(Scenario(costs(), fleet, burst, scaling=bounds)).priors
    most = max(priors for _, priors in held)
    assert held[0][1] == 1
    assert 4 <= most <= 6
    assert {priors for moment, priors in held if moment < 120.0} == {1}
    assert held[-1][1] < most


def test_one_machine_and_gpus_of_their_own_are_told_apart() -> None:
    with pytest.raises(ValueError, match=r"fleet\.placement is 'cloud': use apart, together or machine"):
        Fleet(placement="cloud")
    assert Fleet().placement == APART
