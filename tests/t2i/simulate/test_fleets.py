"""How GPUs are shared out, by arithmetic that can be checked by hand."""

from __future__ import annotations

import pytest

from t2i.simulate.costs import BatchCosts, GatewayCosts, PriorCosts
from t2i.simulate.fleets import Work, apart, capacities, capacity, fleet_of, together
from t2i.simulate.service import APART, TOGETHER
from tests.t2i.simulate.conftest import costs

WORK = Work(prior=0.9, decoder=0.06, reranker=0.04, gateway=0.07)


def test_the_work_of_a_request_is_that_of_full_slots_and_batches() -> None:
    prior = PriorCosts(slots=8, image_tokens=10, step_s=0.1, slot_s=0.01, caption_s=0.02, prefill_s=0.3)
    gateway = GatewayCosts(request_s=0.02, progress_s=0.001, image_s=0.01, hop_s=1.0)
    work = Work.of(costs(prior, BatchCosts(4, 0.4, 0.1), BatchCosts(4, 0.2), gateway), candidates=4, keep=2)
    step = 0.1 + 8 * 0.01 + 2 * 0.02
    assert work.prior == pytest.approx(0.3 + 10 * step / 2)
    assert work.decoder == pytest.approx(4 * 0.2)
    assert work.reranker == pytest.approx(4 * 0.05)
    assert work.gateway == pytest.approx(0.02 + 2 * 0.01 + 0.001 * work.prior / 0.1)  # told for as long as it takes


def test_a_fleet_answers_what_its_fullest_part_can() -> None:
    fleet = apart(10, 1, WORK)
    assert (fleet.priors, fleet.decoders, fleet.rerankers, fleet.placement) == (9, 1, 1, APART)
    gateways = fleet.gateways / 0.07
    expected = {"prior": 10.0, "decoder and reranker": 10.0, "gateways": gateways}
    assert capacities(fleet, WORK) == pytest.approx(expected)
    assert capacity(fleet, WORK) == pytest.approx(10.0)
    assert gateways >= 10.0 / 0.7
    assert capacities(together(10, WORK), WORK)["GPUs"] == pytest.approx(10.0)


@pytest.mark.parametrize("gpus", [1, 2, 5])
def test_few_gpus_have_all_stages_each(gpus: int) -> None:
    assert fleet_of(gpus, WORK).placement == TOGETHER


@pytest.mark.parametrize(("gpus", "behind"), [(10, 1), (40, 4), (1000, 100)])
def test_many_gpus_are_shared_out_by_the_work(gpus: int, behind: int) -> None:
    fleet = fleet_of(gpus, WORK)
    assert (fleet.priors, fleet.decoders) == (gpus - behind, behind)


def test_more_gpus_answer_more() -> None:
    answers = [capacity(fleet_of(gpus, WORK), WORK) for gpus in range(1, 60)]
    assert answers == sorted(answers)
