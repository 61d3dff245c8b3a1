"""The same request gives the same tokens, whoever its neighbours are (DESIGN: the seed contract)."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import pytest

from models.dtypes import PRIOR_DTYPES
from models.prior import Prior, PriorConfig
from models.prior.decoding.packed import PackedLinear
from t2i.engine import Engine, Request
from t2i.sampling import SamplingParams
from tests.soak import scaled

from .conftest import CONFIG, random_prior, run

SLOTS = 9
WIDE = replace(CONFIG, heads=4, head_width=64, grid_height=4, grid_width=5, codebook_size=100)
"""Wide enough for the packed layers' and the kernels' whole vectors, with a codebook that is not."""

REQUESTS = [
    Request("plain", (1, 2), 4, seed=1),
    Request("again", (1, 2), 3, seed=2, sampling=SamplingParams(0.7)),
    Request("alone", (3,), 1, seed=3),
    Request("greedy", (4, 5, 6), 2, seed=4, sampling=SamplingParams(0)),
    Request("guided", (7,), 3, seed=5, sampling=SamplingParams(guidance=2.0)),
    Request("prefix", (1, 2), 2, seed=6, prefix=(5, 6, 7, 8, 9)),
    Request("top", (8, 9), 3, seed=7, sampling=SamplingParams(0.9, top_k=5, top_p=0.8)),
    Request("all", (7,), 2, seed=8, sampling=SamplingParams(1.1, 20, 0.9, 1.5), prefix=(1, 2)),
    Request("many", (10,), 12, seed=9),
    Request("rows", (11, 12), 2, seed=10, progressive=True),
]


def tokens_alone(prior: Prior, compiled: bool = False) -> dict[tuple[str, int], list[int]]:
    tokens: dict[tuple[str, int], list[int]] = {}
    for request in REQUESTS:
        engine = new_engine(prior, compiled)
        engine.add(request)
        tokens |= run(engine)
    return tokens


def new_engine(prior: Prior, compiled: bool) -> Engine:
    engine = Engine(prior, SLOTS, captions=5)
    if compiled:
        engine.compile()
    return engine


def check_random_mixes(prior: Prior, mixes: int, compiled: bool = False) -> None:
    """Requests that join at any time, leave half-way or lose candidates; what is left is as it was alone."""
    alone = tokens_alone(prior, compiled)
    engine = new_engine(prior, compiled)
    for trial in range(mixes):
        chance = random.Random(trial)
        mix = chance.sample(REQUESTS, k=chance.randint(2, 7))
        joins = sorted(chance.randrange(30) for _ in mix)
        leaves = {chance.choice(mix).id: chance.randrange(1, 40)}
        drops = {chance.choice(mix).id: (chance.randrange(1, 40), {0, 2})}
        found, step = {}, 0
        while joins or engine.has_work:
            while joins and joins[0] <= step:
                engine.add(mix[len(mix) - len(joins)])
                joins.pop(0)
            for request_id, when in leaves.items():
                if when == step:
                    engine.cancel(request_id)
            for request_id, (when, candidates) in drops.items():
                if when == step:
                    engine.drop(request_id, candidates)
            for candidate in engine.step().finished:
                found[candidate.request_id, candidate.candidate] = candidate.image_tokens.tolist()
            step += 1
        assert all(found[key] == alone[key] for key in found), f"mix {trial} made other tokens"
        untouched = [request for request in mix if request.id not in leaves and request.id not in drops]
        assert all((r.id, c) in found for r in untouched for c in range(r.candidates))


@pytest.mark.parametrize("mixes", [60, pytest.param(scaled(1000), marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_in_random_mixes(prior: Prior, mixes: int) -> None:
    check_random_mixes(prior, mixes)


@pytest.mark.parametrize("mixes", [8, pytest.param(scaled(100), marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
@pytest.mark.parametrize("dtype", PRIOR_DTYPES)
def test_in_the_layout_for_inference(dtype: str, mixes: int) -> None:
    prior = random_prior(WIDE).for_inference(dtype)
    assert isinstance(prior.image_head, PackedLinear) == (dtype != "float32" and PackedLinear.is_supported())
    check_random_mixes(prior, mixes)


def test_compiled() -> None:
    config: PriorConfig = replace(WIDE, layers=2)
    check_random_mixes(random_prior(config), mixes=5, compiled=True)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_draws_the_tokens_of_a_cpu(prior: Prior, compiled: bool) -> None:
    engine = new_engine(copy.deepcopy(prior).cuda(), compiled)
    for request in REQUESTS:
        engine.add(request)
    assert run(engine) == tokens_alone(prior)


def test_after_a_restart(prior: Prior) -> None:
    assert tokens_alone(random_prior()) == tokens_alone(prior)
