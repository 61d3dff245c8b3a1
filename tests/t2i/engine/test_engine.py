"""The engine: every request gets its own tokens, whoever else is there."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.prior import Prior, text_tensor
from models.prior.decoding.shared_text import KEYS_AT_ONCE
from models.prior.sampling import apply_top_k_top_p, noise_keys, sample
from t2i.engine import Engine, Request, TokenProgress, rows_to_keep
from t2i.sampling import RequestError, SamplingParams

from .conftest import CONFIG, run

N = 12


@torch.no_grad()
def naive(prior: Prior, request: Request, candidate: int) -> list[int]:
    """Sample without cache, slots or batch: the whole stream through the prior for every token, guidance by hand."""
    layout, sampling, tokens = prior.layout, request.sampling, torch.zeros(1, N, dtype=torch.long)
    tokens[0, : len(request.prefix)] = torch.tensor(request.prefix)
    temperature = torch.tensor([sampling.temperature])
    for position in range(len(request.prefix), N):
        conditional, unconditional = (
            prior.image_logits(prior(layout.inputs(text_tensor([text], layout), tokens)))[:, position - N]
            for text in (request.text, ())
        )
        logits = conditional
        if sampling.guidance != 1:
            logits = unconditional + sampling.guidance * (conditional - unconditional)
        if sampling.top_k > 0 or sampling.top_p < 1:
            logits = apply_top_k_top_p(
                logits, temperature, torch.tensor([sampling.top_k]), torch.tensor([sampling.top_p])
            )
        key = noise_keys(torch.tensor([request.seed]), torch.tensor([candidate]))
        tokens[0, position] = sample(logits, key, torch.tensor([position]), temperature)[0]
    return tokens[0].tolist()


def test_tokens_equal_sampling_without_cache_or_batch(prior: Prior) -> None:
    engine = Engine(prior, slots=3)
    requests = [Request("a", (1, 2), 2, seed=7), Request("b", (3,), 3, seed=8, sampling=SamplingParams(0.5))]
    for request in requests:
        engine.add(request)
    expected = {(r.id, c): naive(prior, r, c) for r in requests for c in range(r.candidates)}
    assert run(engine) == expected


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
    assert engine.progress("a") == TokenProgress(10, 36)
    assert engine.cancel("a") == 10
    assert not engine.has_work
    assert engine.step().progress == {}
    assert engine.cancel("a") == 0


def test_candidates_differ_and_temperature_zero_does_not(prior: Prior) -> None:
    engine = Engine(prior, slots=8)
    engine.add(Request("warm", (1,), 4, seed=1))
    engine.add(Request("cold", (1,), 4, seed=1, sampling=SamplingParams(0)))
    tokens = run(engine)
    assert len({tuple(tokens["warm", c]) for c in range(4)}) == 4
    assert len({tuple(tokens["cold", c]) for c in range(4)}) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda: Request("a", (1,), 0, seed=0), "candidates"),
        (lambda: Request("a", (1,), 1, seed=-1), "seed"),
        (lambda: SamplingParams(temperature=-0.1), "temperature"),
        (lambda: SamplingParams(top_k=-1), "top_k"),
        (lambda: SamplingParams(top_p=0), "top_p"),
        (lambda: SamplingParams(guidance=float("nan")), "guidance"),
        (lambda: rows_to_keep(0, 8), "image_rows"),
        (lambda: rows_to_keep(8, 8), "image_rows"),
    ],
)
def test_what_is_out_of_range_names_its_field(change: Callable[[], object], field: str) -> None:
    with pytest.raises(RequestError, match=field) as caught:
        change()
    assert caught.value.field == field


def test_the_papers_rows_to_keep() -> None:
    assert [rows_to_keep(None, height) for height in (32, 16, 8, 2)] == [15, 8, 4, 1]


def test_a_prefix_that_does_not_fit_is_refused(prior: Prior) -> None:
    engine = Engine(prior, slots=1)
    with pytest.raises(RequestError, match="prefix has 12 image tokens: use at most 11"):
        engine.add(Request("a", (1,), 1, seed=0, prefix=(0,) * N))
    with pytest.raises(RequestError, match="outside of the codebook"):
        engine.add(Request("a", (1,), 1, seed=0, prefix=(32,)))
    with pytest.raises(RequestError, match="guidance takes two slots"):
        engine.add(Request("a", (1,), 1, seed=0, sampling=SamplingParams(guidance=2)))


SETTINGS = {
    "prefix": Request("prefix", (1, 2), 2, seed=3, prefix=(5, 6, 7, 8, 9)),
    "guided": Request("guided", (4,), 3, seed=4, sampling=SamplingParams(guidance=2.5)),
    "unguided": Request("unguided", (4,), 2, seed=4),
    "top_k": Request("top_k", (4, 5), 2, seed=5, sampling=SamplingParams(top_k=3)),
    "top_p": Request("top_p", (6,), 2, seed=6, sampling=SamplingParams(temperature=0.7, top_p=0.6)),
    "all": Request("all", (7, 8), 2, seed=7, sampling=SamplingParams(0.9, 8, 0.9, 1.5), prefix=(1, 2)),
}


def test_every_setting_is_as_without_cache_in_any_company(prior: Prior) -> None:
    engine = Engine(prior, slots=5)
    for request in SETTINGS.values():
        engine.add(request)
    expected = {(r.id, c): naive(prior, r, c) for r in SETTINGS.values() for c in range(r.candidates)}
    assert run(engine) == expected
    assert all(tokens[:5] == [5, 6, 7, 8, 9] for key, tokens in expected.items() if key[0] == "prefix")


@pytest.mark.parametrize("guidance", [0, 0.5, 1 + 1e-9, 3, 30])
def test_guided_tokens_are_those_of_the_guided_logits(prior: Prior, guidance: float) -> None:
    """unconditional + s (conditional - unconditional), each of the whole stream that the guided tokens make."""
    request = Request("a", (4, 5, 6, 7), 2, seed=4, sampling=SamplingParams(guidance=guidance))
    engine = Engine(prior, slots=4)
    engine.add(request)
    assert run(engine) == {("a", c): naive(prior, request, c) for c in range(2)}


def test_guidance_of_zero_ignores_the_caption_and_of_one_is_none(prior: Prior) -> None:
    def tokens(text: tuple[int, ...], guidance: float) -> list[list[int]]:
        engine = Engine(prior, slots=4)
        engine.add(Request("a", text, 2, seed=4, sampling=SamplingParams(guidance=guidance)))
        return [tokens for _, tokens in sorted(run(engine).items())]

    text = (4, 5, 6, 7)
    assert tokens(text, 0) == tokens((), 1)
    assert tokens(text, 1 + 1e-9) == tokens(text, 1)
    assert all(guided != plain for guided, plain in zip(tokens(text, 3), tokens(text, 1), strict=True))
    assert all(empty != plain for empty, plain in zip(tokens((), 1), tokens(text, 1), strict=True))


def test_a_prefix_is_no_progress(prior: Prior) -> None:
    engine = Engine(prior, slots=2)
    engine.add(SETTINGS["prefix"])
    assert engine.progress("prefix") == TokenProgress(0, 2 * (N - 5))
    engine.step()
    assert engine.progress("prefix") == TokenProgress(2, 2 * (N - 5))


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


def test_progress_of_each_candidate_is_exact(prior: Prior) -> None:
    engine = Engine(prior, slots=2)
    engine.add(Request("a", (1,), 3, seed=1, prefix=(1, 2)))
    for _ in range(12):
        engine.step()
    assert engine.candidate_progress("a") == [TokenProgress(10, 10), TokenProgress(10, 10), TokenProgress(2, 10)]


def test_partial_candidates_come_at_the_end_of_each_row(prior: Prior) -> None:
    engine = Engine(prior, slots=3)
    engine.add(Request("a", (1,), 2, seed=1, progressive=True))
    engine.add(Request("b", (2,), 1, seed=2))
    rows: dict[int, list[list[int]]] = {0: [], 1: []}
    when = []
    tokens: dict[int, list[int]] = {}
    for step in range(1, N + 1):
        result = engine.step()
        when += [step for _ in result.partial]
        for completed in result.partial:
            rows[completed.candidate].append(completed.image_tokens.tolist())
        tokens |= {c.candidate: c.image_tokens.tolist() for c in result.finished if c.request_id == "a"}
    assert when == [4, 4, 8, 8]
    assert rows == {c: [tokens[c][:4], tokens[c][:8]] for c in (0, 1)}


def test_rows_of_a_prefix_that_ends_in_the_middle_of_one(prior: Prior) -> None:
    engine = Engine(prior, slots=1)
    engine.add(Request("a", (1,), 1, seed=1, prefix=(1, 2, 3, 4, 5, 6), progressive=True))
    completed = [row.image_tokens.tolist() for _ in range(6) for row in engine.step().partial]
    assert [len(row) for row in completed] == [8]
    assert completed[0][:6] == [1, 2, 3, 4, 5, 6]


def test_a_request_past_its_deadline_is_never_begun(prior: Prior) -> None:
    engine = Engine(prior, slots=2, clock=lambda: 100.0)
    engine.add(Request("late", (1,), 2, seed=1, deadline=99.0))
    engine.add(Request("b", (2,), 1, seed=2))
    result = engine.step()
    assert result.expired == {"late": 0}
    assert set(result.progress) == {"b"}


def test_a_deadline_stops_running_work_within_a_step_and_says_what_was_spent(prior: Prior) -> None:
    now = [100.0]
    engine = Engine(prior, slots=2, clock=lambda: now[0])
    engine.add(Request("a", (1,), 8, seed=1, deadline=100.5))
    engine.step()
    now[0] = 100.5
    result = engine.step()
    assert result.expired == {"a": 2}
    assert result.progress == {}
    assert not engine.has_work


def test_dropped_candidates_are_not_finished_and_progress_shrinks(prior: Prior) -> None:
    engine = Engine(prior, slots=2)
    engine.add(Request("a", (1,), 4, seed=1))
    for _ in range(5):
        engine.step()
    assert engine.drop("a", {1, 3}) == (N - 5) + N
    assert engine.progress("a") == TokenProgress(10, 2 * N + 5)
    assert sorted(candidate for _, candidate in run(engine)) == [0, 2]
    assert engine.drop("a", {0}) == 0


def test_dropping_the_last_ones_ends_the_request(prior: Prior) -> None:
    engine = Engine(prior, slots=2)
    engine.add(Request("a", (1,), 2, seed=1))
    engine.step()
    engine.drop("a", {0, 1})
    assert not engine.has_work


def test_captions_in_turn_where_only_one_fits(prior: Prior) -> None:
    engine = Engine(prior, slots=4, captions=1)
    for name, text in (("a", (1,)), ("b", (2,)), ("c", (1,))):
        engine.add(Request(name, text, 2, seed=1))
    alone: dict[tuple[str, int], list[int]] = {}
    for name, text in (("a", (1,)), ("b", (2,)), ("c", (1,))):
        other = Engine(prior, slots=4, captions=1)
        other.add(Request(name, text, 2, seed=1))
        alone |= run(other)
    assert run(engine) == alone
    with pytest.raises(RequestError, match="two slots and captions"):
        engine.add(Request("d", (1,), 1, seed=0, sampling=SamplingParams(guidance=2)))


def test_the_cache_holds_a_caption_only_while_it_is_read(prior: Prior) -> None:
    engine = Engine(prior, slots=2)
    empty = engine.cache_bytes
    engine.add(Request("a", (1,), 2, seed=1))
    engine.step()
    one = engine.cache_bytes - empty
    positions = KEYS_AT_ONCE + prior.layout.prefix_length  # of keys, of which there are fewer, and of values
    assert one == CONFIG.layers * positions * CONFIG.width * 4
    run(engine)
    engine.add(Request("b", (2,), 2, seed=1))
    engine.step()
    assert engine.cache_bytes - empty == one


def test_without_a_compiler_the_step_runs_as_it_is(
    prior: Prior, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler\nat great length")

    request, engine = Request("a", (1, 2), 3, seed=7), Engine(prior, slots=3)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    monkeypatch.setattr("t2i.engine.runner.logger.parent.propagate", True)
    engine.compile()
    assert "no C++ compiler" in caplog.text
    assert "compiled the decoding step in" not in caplog.text
    engine.add(request)
    assert run(engine) == {("a", c): naive(prior, request, c) for c in range(3)}
