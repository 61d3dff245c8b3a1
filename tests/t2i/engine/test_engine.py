"""The engine: every request gets its own tokens, whoever else is there."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch

from models.prior import Prior, PriorConfig, text_tensor
from models.prior.sampling import sample
from t2i.engine import Engine, Progress, Request, RequestError

CONFIG = PriorConfig(
    layers=4,
    heads=2,
    head_width=16,
    text_length=6,
    text_vocabulary=50,
    grid_height=3,
    grid_width=4,
    codebook_size=32,
)
N = 12


@pytest.fixture(scope="module")
def prior() -> Prior:
    torch.manual_seed(0)
    model = Prior(CONFIG).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def run(engine: Engine) -> dict[tuple[str, int], list[int]]:
    tokens = {}
    while engine.has_work:
        for candidate in engine.step().finished:
            tokens[candidate.request_id, candidate.candidate] = candidate.image_tokens.tolist()
    return tokens


@torch.no_grad()
def naive(prior: Prior, request: Request, candidate: int) -> list[int]:
    """Sampling without cache, slots or batch."""
    text, tokens = text_tensor([request.text], prior.layout), torch.zeros(1, N, dtype=torch.long)
    for position in range(N):
        hidden = prior(prior.layout.inputs(text, tokens))[:, prior.layout.prefix_length - 1 + position]
        key = [torch.tensor([value]) for value in (request.seed, candidate, position)]
        tokens[0, position] = sample(prior.image_logits(hidden), *key, torch.tensor([request.temperature]))[0]
    return tokens[0].tolist()


def test_tokens_equal_sampling_without_cache_or_batch(prior: Prior) -> None:
    engine = Engine(prior, slots=3)
    requests = [Request("a", (1, 2), 2, seed=7), Request("b", (3,), 3, seed=8, temperature=0.5)]
    for request in requests:
        engine.add(request)
    expected = {(r.id, c): naive(prior, r, c) for r in requests for c in range(r.candidates)}
    assert run(engine) == expected


def test_any_mix_order_and_cancellation_leaves_a_requests_tokens_as_they_are(prior: Prior) -> None:
    alone: dict[tuple[str, int], list[int]] = {}
    requests = [Request(f"r{i}", tuple(range(i % 6)), 1 + i % 4, seed=i) for i in range(9)]
    for request in requests:
        engine = Engine(prior, slots=4)
        engine.add(request)
        alone |= run(engine)
    for trial in range(20):
        rng = random.Random(trial)
        engine = Engine(prior, slots=4)
        mix = rng.sample(requests, k=6)
        for request in mix:
            engine.add(request)
        for _ in range(rng.randrange(1, N)):
            engine.step()
        engine.cancel(mix[0].id)
        mixed = run(engine)
        assert {key[0] for key in mixed} == {request.id for request in mix[1:]}
        assert all(mixed[key] == alone[key] for key in mixed)


def test_a_small_request_is_not_shut_out_by_a_large_one(prior: Prior) -> None:
    engine = Engine(prior, slots=4)
    engine.add(Request("large", (1,), 40, seed=1))
    engine.step()
    engine.add(Request("small", (2,), 1, seed=2))
    steps = 0
    while ("small", 0) not in {(c.request_id, c.candidate) for c in engine.step().finished}:
        steps += 1
    assert steps <= 2 * N


def test_progress_is_exact(prior: Prior) -> None:
    engine = Engine(prior, slots=2)
    engine.add(Request("a", (1,), 3, seed=1))
    seen = []
    while engine.has_work:
        seen.append(engine.step().progress["a"].tokens_done)
    assert seen == [min(2 * step, 2 * N) for step in range(1, N + 1)] + [2 * N + step for step in range(1, N + 1)]


def test_cancel_frees_the_slots_and_says_what_was_spent(prior: Prior) -> None:
    engine = Engine(prior, slots=2)
    engine.add(Request("a", (1,), 3, seed=1))
    for _ in range(5):
        engine.step()
    assert engine.progress("a") == Progress(10, 36)
    assert engine.cancel("a") == 10
    assert not engine.has_work
    assert engine.step().progress == {}
    assert engine.cancel("a") == 0


def test_candidates_differ_and_temperature_zero_does_not(prior: Prior) -> None:
    engine = Engine(prior, slots=8)
    engine.add(Request("warm", (1,), 4, seed=1))
    engine.add(Request("cold", (1,), 4, seed=1, temperature=0))
    tokens = run(engine)
    assert len({tuple(tokens["warm", c]) for c in range(4)}) == 4
    assert len({tuple(tokens["cold", c]) for c in range(4)}) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [({"candidates": 0}, "candidates"), ({"seed": -1}, "seed"), ({"temperature": -0.1}, "temperature")],
)
def test_a_request_out_of_range_names_its_field(change: dict[str, int], field: str) -> None:
    with pytest.raises(RequestError, match=field) as caught:
        Request(**{"id": "a", "text": (1,), "candidates": 1, "seed": 0, **change})
    assert caught.value.field == field


def test_text_the_prior_cannot_take_is_refused(prior: Prior) -> None:
    engine = Engine(prior, slots=1)
    with pytest.raises(RequestError, match="7 tokens"):
        engine.add(Request("a", (1,) * 7, 1, seed=0))
    with pytest.raises(RequestError, match="does not know"):
        engine.add(Request("a", (99,), 1, seed=0))
    engine.add(Request("a", (1,), 1, seed=0))
    with pytest.raises(RequestError, match="in use"):
        engine.add(Request("a", (1,), 1, seed=0))


def test_an_engine_of_one_slot_serves_many(prior: Prior) -> None:
    engine = Engine(prior, slots=1)
    engine.add(Request("a", (1, 2), 3, seed=3))
    tokens = run(engine)
    assert sorted(tokens) == [("a", 0), ("a", 1), ("a", 2)]
    assert all(np.array(row).max() < CONFIG.codebook_size for row in tokens.values())


def test_a_request_error_survives_the_way_out_of_another_process() -> None:
    error = copy.copy(RequestError("seed", "seed is -1: use 0 or more."))
    assert (error.field, str(error)) == ("seed", "seed is -1: use 0 or more.")
