"""Drafts change how many steps a request takes, and nothing else: tokens, rows and pruning are those without them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from torch import Tensor

from models.dtypes import PRIOR_DTYPES
from models.prior import Prior
from t2i.engine import Engine, OfflineRun, Pruner, PruningParams, Request, StepResult
from t2i.engine import runner as runner_module
from t2i.sampling import SamplingParams
from tests.soak import scaled

from .conftest import CONFIG, random_prior, run

N, WIDTH = 12, 4
SLOTS = 9
WIDE = replace(CONFIG, heads=4, head_width=64, grid_height=4, grid_width=5, codebook_size=100)
WINDOWS = [2, 4, 16]


def random_request(number: int, chance: random.Random, image_length: int = N) -> Request:
    """Any request: few candidates or many, of few captions, with any setting and any client."""
    sampling = SamplingParams(
        temperature=chance.choice([0, 0.2, 0.7, 1.0]),
        top_k=chance.choice([0, 0, 3, 20]),
        top_p=chance.choice([1.0, 1.0, 0.8]),
        guidance=chance.choice([1.0, 1.0, 2.0, 0.0]),
    )
    return Request(
        f"{number}",
        chance.choice([(1, 2), (3,), (4, 5, 6), ()]),
        chance.choice([1, 1, 2, 3, 12]),
        seed=chance.randrange(2**63),
        sampling=sampling,
        prefix=tuple(chance.randrange(32) for _ in range(chance.choice([0, 0, 1, 5, image_length - 1]))),
        client=chance.choice("xyz"),
        progressive=chance.random() < 0.5,
    )


def draw(
    prior: Prior, requests: list[Request], window: int, seed: int, compiled: bool = False
) -> tuple[dict[tuple[str, int], list[int]], dict[tuple[str, int], list[list[int]]]]:
    """Run requests that come at any time, some of which lose candidates or leave: what is finished, and rows before."""
    chance, engine = random.Random(seed), Engine(prior, SLOTS, captions=5, window=window)
    if compiled:
        engine.compile()
    waiting, finished, rows = list(requests), {}, defaultdict(list)
    drops = {r.id: chance.sample(range(r.candidates), r.candidates // 2) for r in chance.sample(requests, 3)}
    left = {r.id for r in chance.sample(requests, len(requests) // 10)}
    while waiting or engine.has_work:
        if waiting and chance.random() < 0.15:
            engine.add(waiting.pop())
        result = engine.step()
        check_counts(result, window)
        for each in result.partial:
            rows[each.request_id, each.candidate].append(each.image_tokens.tolist())
        for done in result.finished:
            finished[done.request_id, done.candidate] = done.image_tokens.tolist()
        for request_id in result.accepted:
            if chance.random() < 0.1 and request_id in drops:
                engine.drop(request_id, drops.pop(request_id))
            if chance.random() < 0.1 and request_id in left:
                engine.cancel(request_id)
    return finished, rows


def check_counts(result: StepResult, window: int) -> None:
    assert sum(result.accepted.values()) <= SLOTS
    assert set(result.accepted) == set(result.progress)
    assert result.candidates <= sum(result.accepted.values()) <= window * result.candidates
    assert result.tokens_per_candidate >= (1 if result.candidates else 0)


def tokens_alone(prior: Prior, requests: list[Request], compiled: bool = False) -> dict[tuple[str, int], list[int]]:
    """Every request by itself, without a draft, in the same number of slots."""
    engine = Engine(prior, SLOTS, captions=5)
    tokens: dict[tuple[str, int], list[int]] = {}
    if compiled:
        engine.compile()
    for request in requests:
        engine.add(request)
        tokens |= run(engine)
    return tokens


def check(prior: Prior, number: int, windows: list[int], compiled: bool = False) -> None:
    """Random requests, together and with drafts, have the tokens that each has alone without."""
    chance = random.Random(number)
    requests = [random_request(each, chance, prior.layout.image_length) for each in range(number)]
    alone, width = tokens_alone(prior, requests, compiled), prior.layout.grid[1]
    for window in windows:
        finished, rows = draw(prior, requests, window, seed=window, compiled=compiled)
        assert all(finished[key] == alone[key] for key in finished), f"window {window} made other tokens"
        assert len(finished) >= len(alone) // 3
        progressive = {r.id: len(r.prefix) for r in requests if r.progressive}
        assert {name for name, _ in rows} <= set(progressive)
        for name, candidate in finished:
            if name in progressive:
                ends = range(progressive[name] // width * width + width, prior.layout.image_length, width)
                assert rows.get((name, candidate), []) == [alone[name, candidate][:end] for end in ends]


@pytest.mark.parametrize("window", [1, *WINDOWS])
def test_tokens_and_rows_are_those_without_drafts(prior: Prior, window: int) -> None:
    check(prior, 60, [window])


@pytest.mark.parametrize("dtype", PRIOR_DTYPES)
def test_in_the_layout_for_inference(dtype: str) -> None:
    check(random_prior(WIDE).for_inference(dtype), 25, WINDOWS)


@pytest.mark.slow
def test_compiled() -> None:
    check(random_prior(replace(WIDE, layers=2)), 25, [1, 4], compiled=True)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("dtype", PRIOR_DTYPES)
def test_a_thousand_requests(dtype: str) -> None:
    check(random_prior(WIDE).for_inference(dtype), scaled(1000), WINDOWS)


def draws(monkeypatch: pytest.MonkeyPatch, sample: Callable[[Tensor], Tensor]) -> None:
    """Let tokens be a function of their positions, whatever the logits."""
    monkeypatch.setattr(runner_module, "sample", lambda _logits, _keys, positions, _temperatures: sample(positions))


@pytest.fixture
def _one_token_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draft is right."""
    draws(monkeypatch, lambda positions: torch.full_like(positions, 7))


@pytest.fixture
def _another_token_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy is never right, a draw that was kept always is."""
    draws(monkeypatch, lambda positions: positions)


@pytest.fixture
def _another_token_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No draft is ever right: each is what was drawn in an earlier step."""
    numbers = count()
    draws(monkeypatch, lambda positions: torch.full_like(positions, next(numbers)))


def tokens_by_step(prior: Prior, window: int, slots: int, *requests: Request) -> list[dict[str, int]]:
    engine = Engine(prior, slots, window=window)
    for request in requests:
        engine.add(request)
    steps = []
    while engine.has_work:
        steps.append(engine.step().accepted)
    return steps


@pytest.mark.usefixtures("_one_token_everywhere")
def test_right_drafts_are_all_accepted_after_the_first_step(prior: Prior) -> None:
    assert tokens_by_step(prior, 4, 8, Request("a", (1,), 1, seed=0)) == [{"a": n} for n in (1, 4, 4, 3)]
    assert tokens_by_step(prior, 4, 3, Request("a", (1,), 1, seed=0)) == [{"a": n} for n in (1, 3, 3, 3, 2)]
    guided = Request("a", (1,), 1, seed=0, sampling=SamplingParams(guidance=2.0))
    assert tokens_by_step(prior, 4, 7, guided) == [{"a": n} for n in (1, 3, 3, 3, 2)]


@pytest.mark.usefixtures("_one_token_everywhere")
def test_drafting_ends_where_slots_are_needed(prior: Prior) -> None:
    requests = Request("a", (1,), 1, seed=0), Request("b", (2,), 2, seed=0)
    assert tokens_by_step(prior, 16, 3, *requests) == [{"a": 1, "b": 2}] * N


@pytest.mark.usefixtures("_another_token_everywhere")
def test_what_is_drawn_after_a_wrong_draft_is_the_next_draft(prior: Prior) -> None:
    assert tokens_by_step(prior, 4, 8, Request("a", (1,), 1, seed=0)) == [{"a": n} for n in (1, 1, 4, 1, 4, 1)]


@pytest.mark.usefixtures("_another_token_each_time")
def test_wrong_drafts_cost_no_step(prior: Prior) -> None:
    assert tokens_by_step(prior, 4, 8, Request("a", (1,), 1, seed=0)) == [{"a": 1}] * N


@pytest.mark.usefixtures("_one_token_everywhere")
def test_all_rows_that_a_step_completes_are_handed_out(prior: Prior) -> None:
    engine = Engine(prior, slots=12, window=12)
    engine.add(Request("a", (1,), 1, seed=0, progressive=True))
    assert engine.step().partial == []
    result = engine.step()
    assert [row.image_tokens.tolist() for row in result.partial] == [[7] * 4, [7] * 8]
    assert [done.image_tokens.tolist() for done in result.finished] == [[7] * 12]
    assert result.progress["a"].tokens_done == N


@pytest.mark.parametrize("slots", [2, 3, 8, 40])
@pytest.mark.parametrize("rows", [1, 2])
def test_the_same_candidates_survive_pruning(prior: Prior, slots: int, rows: int) -> None:
    requests = [
        Request("a", (1, 2), 10, seed=1, sampling=SamplingParams(0)),
        Request("b", (3,), 7, seed=2, sampling=SamplingParams(0.1, guidance=2.0)),
        Request("c", (4,), 4, seed=3, prefix=(5, 6)),
    ]

    def judge(request_id: str, image_tokens: np.ndarray) -> np.ndarray:
        return (image_tokens * (np.arange(image_tokens.shape[1]) + ord(request_id))).sum(axis=1) % 97

    def survivors(window: int) -> dict[str, tuple[list[int], list[list[int]]]]:
        pruner = Pruner(PruningParams(rows, 0.5, 4), {r.id: r.candidates for r in requests}, WIDTH, judge)
        drawn = OfflineRun(Engine(prior, slots, window=window), requests, pruner).run()
        return {name: (each.candidates.tolist(), each.image_tokens.tolist()) for name, each in drawn.items()}

    assert survivors(16) == survivors(1)


@pytest.mark.usefixtures("_one_token_everywhere")
def test_a_candidate_may_be_judged_in_the_step_that_finishes_it(prior: Prior) -> None:
    """Both of a group complete their rows and images in one step, and one of them is dropped all the same."""
    requests = [Request("a", (1,), 2, seed=1)]
    pruner = Pruner(PruningParams(2, 0.5, 2), {"a": 2}, WIDTH, lambda _, tokens: np.arange(len(tokens)))
    drawn = OfflineRun(Engine(prior, 24, window=12), requests, pruner).run()["a"]
    assert (drawn.candidates.tolist(), drawn.image_tokens.tolist()) == ([1], [[7] * N])
