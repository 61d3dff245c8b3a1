"""Pruning: which candidates survive never depends on slots or company, and what was saved was not made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.errors import UserError
from models.prior import Prior
from t2i.engine import (
    Engine,
    OfflineRun,
    PartialCandidate,
    Pruner,
    PruningParams,
    Request,
    SampledCandidates,
    TextToImage,
    TokenProgress,
)
from t2i.sampling import SamplingParams

N, WIDTH = 12, 4
REQUESTS = [
    Request("a", (1, 2), 10, seed=1),
    Request("b", (3,), 7, seed=2, sampling=SamplingParams(guidance=2.0)),
    Request("c", (4,), 4, seed=3, prefix=(5, 6)),
    Request("d", (1, 2), 1, seed=4),
]
PRUNING = PruningParams(rows=1, keep=0.5, group=4)


def by_tokens(request_id: str, image_tokens: np.ndarray) -> np.ndarray:
    """A judge that reads the tokens and the caption's name."""
    return (image_tokens * (np.arange(image_tokens.shape[1]) + ord(request_id))).sum(axis=1) % 97


def draw(
    prior: Prior, requests: list[Request], slots: int, pruning: PruningParams | None = None, **how: Callable
) -> dict[str, SampledCandidates]:
    candidates = {request.id: request.candidates for request in requests}
    pruner = Pruner(pruning, candidates, WIDTH, by_tokens) if pruning else None
    return OfflineRun(Engine(prior, slots), requests, pruner).run(**how)


@pytest.fixture(scope="module")
def full(prior: Prior) -> dict[str, SampledCandidates]:
    return draw(prior, REQUESTS, slots=8)


def test_without_pruning_everything_is_drawn(full: dict[str, SampledCandidates]) -> None:
    for request in REQUESTS:
        assert full[request.id].candidates.tolist() == list(range(request.candidates))
        assert full[request.id].image_tokens.shape == (request.candidates, N)
        assert full[request.id].tokens_saved == 0


@pytest.mark.parametrize("slots", [2, 3, 8, 40])
def test_survivors_are_the_best_of_each_group_with_the_tokens_of_the_full_run(
    prior: Prior, full: dict[str, SampledCandidates], slots: int
) -> None:
    pruned = draw(prior, REQUESTS, slots, PRUNING)
    for request in REQUESTS:
        whole, left = full[request.id], pruned[request.id]
        expected = PRUNING.survivors(by_tokens(request.id, whole.image_tokens[:, :WIDTH]))
        assert left.candidates.tolist() == expected.tolist()
        assert len(expected) == PRUNING.count(request.candidates)
        assert np.array_equal(left.image_tokens, whole.image_tokens[expected])


def test_survivors_do_not_depend_on_company(prior: Prior) -> None:
    together = draw(prior, REQUESTS, 8, PRUNING)
    for request in REQUESTS:
        alone = draw(prior, [request], 8, PRUNING)[request.id]
        assert np.array_equal(alone.candidates, together[request.id].candidates)
        assert np.array_equal(alone.image_tokens, together[request.id].image_tokens)


@pytest.mark.parametrize("slots", [2, 8, 40])
def test_tokens_saved_are_those_not_made_and_progress_ends_at_its_total(prior: Prior, slots: int) -> None:
    seen: list[TokenProgress] = []
    pruned = draw(prior, REQUESTS, slots, PRUNING, on_progress=seen.append)
    everything = sum(request.candidates * (N - len(request.prefix)) for request in REQUESTS)
    saved = sum(drawn.tokens_saved for drawn in pruned.values())
    assert saved > 0
    assert seen[-1] == TokenProgress(everything - saved, everything - saved)
    assert all(before.tokens_done < after.tokens_done for before, after in pairwise(seen))
    assert all(before.tokens_total >= after.tokens_total for before, after in pairwise(seen))


def test_where_a_group_has_slots_together_all_that_follows_its_rows_is_saved(prior: Prior) -> None:
    requests = [Request(name, (1,), 8, seed=1) for name in "abc"]
    for drawn in draw(prior, requests, 16, PRUNING).values():
        assert drawn.tokens_saved == 4 * (N - WIDTH)


def test_requests_that_cannot_all_be_drawn_leave_nothing_behind(prior: Prior) -> None:
    engine, good = Engine(prior, 8), Request("a", (1,), 2, seed=1)
    with pytest.raises(UserError, match="does not know"):
        OfflineRun(engine, [good, Request("b", (99,), 1, seed=1)]).run()
    assert not engine.has_work
    with pytest.raises(UserError, match="same id"):
        OfflineRun(engine, [good, good])


def test_of_equals_the_earlier_goes_on_and_a_share_is_rounded_up() -> None:
    assert PruningParams(rows=1, keep=0.5).best(np.array([1.0, 3.0, 1.0, 1.0])).tolist() == [0, 1]
    assert PruningParams(rows=1, keep=0.01).best(np.array([1.0, 3.0, 2.0])).tolist() == [1]
    assert [PruningParams(rows=1, keep=keep, group=10).count(10) for keep in (0.05, 0.25, 0.7, 1)] == [1, 3, 7, 10]
    assert [PruningParams(rows=1, keep=0.5, group=16).count(n) for n in (1, 3, 16, 20, 32)] == [1, 2, 8, 10, 16]
    assert PruningParams().count(20) == 20


def test_a_group_is_judged_by_its_first_rows_only_and_in_its_own_order() -> None:
    calls = []

    def judge(request_id: str, image_tokens: np.ndarray) -> np.ndarray:
        calls.append((request_id, image_tokens.tolist()))
        return np.array([0.0, 1.0, 2.0])[: len(image_tokens)]

    pruner = Pruner(PruningParams(rows=2, keep=0.3, group=3), {"a": 5}, 2, judge)

    def rows(candidate: int, length: int = 4) -> PartialCandidate:
        return PartialCandidate("a", candidate, np.full(length, candidate, np.int32))

    assert pruner.update([rows(2), rows(4), rows(0), rows(1, 2), rows(0, 6)]) == {}
    assert pruner.update([rows(1), rows(3)]) == {"a": [0, 1, 3]}
    assert calls == [("a", [[0] * 4, [1] * 4, [2] * 4]), ("a", [[3] * 4, [4] * 4])]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": 0}, "pruning.rows is 0"),
        ({"keep": 0}, "pruning.keep is 0"),
        ({"keep": 1.5}, "pruning.keep is 1.5"),
        ({"keep": float("nan")}, "pruning.keep is nan"),
        ({"group": 1}, "pruning.group is 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PruningParams(**settings)


@pytest.mark.parametrize(
    ("rows", "prefix", "message"),
    [
        (8, 0, "pruning.rows is 8 of 8: use 1 to 7"),
        (3, 24, "pruning.rows is 3 of 8, of which the image gives 3: use 4 to 7"),
        (7, 60, "of which the image gives 7: do not prune"),
    ],
)
def test_rows_must_lie_between_the_given_ones_and_the_last(rows: int, prefix: int, message: str) -> None:
    PruningParams(rows=3).check((8, 8), prefix_length=23)
    PruningParams().check((8, 8), prefix_length=63)
    with pytest.raises(UserError, match=message):
        PruningParams(rows=rows).check((8, 8), prefix)


PICTURES = PruningParams(rows=3, keep=0.4, group=4)


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> TextToImage:
    return TextToImage.load(tiny_run, slots=8)


def test_pictures_of_survivors_are_those_of_the_full_run(model: TextToImage) -> None:
    captions = ["a red circle", "a blue square"]
    full = model.generate(captions, candidates=6, seeds=3)
    pruned = model.generate(captions, candidates=6, seeds=3, pruning=PICTURES)
    for whole, left in zip(full, pruned, strict=True):
        previews = [model.preview_to_score(group) for group in np.split(whole.image_tokens[:, :24], [4])]
        scores = np.concatenate([model.rank(images, whole.caption).scores.numpy() for images in previews])
        assert left.candidates.tolist() == PICTURES.survivors(scores).tolist()
        assert np.array_equal(left.image_tokens, whole.image_tokens[left.candidates])
        assert np.array_equal(left.images, whole.images[left.candidates])
        np.testing.assert_allclose(left.scores, whole.scores[left.candidates], atol=1e-6)
        assert left.scores[left.order].tolist() == sorted(left.scores.tolist(), reverse=True)
        assert (whole.candidates.tolist(), whole.tokens_saved) == (list(range(6)), 0)
    # Two candidates of the second caption take the slots that the first one leaves, and are ahead of their group.
    assert pruned[0].tokens_saved == (6 - 3) * (64 - 24) > pruned[1].tokens_saved > 0


def test_what_is_judged_is_grey_below_the_rows_and_above_as_if_they_went_on(model: TextToImage) -> None:
    rows = np.random.default_rng(0).integers(0, 32, (2, 8, 8))
    rows[:, 3:] = rows[:, 2:3]
    whole, judged = model.decode(rows.reshape(2, 64)), model.preview_to_score(rows[:, :3].reshape(2, 24))
    assert np.array_equal(judged[:, :12], whole[:, :12])
    assert (judged[:, 12:] == 128).all()


def test_a_caption_is_encoded_once(model: TextToImage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model.reranker is not None
    encode, captions = model.reranker.encode_captions, list[str]()

    def encode_captions(batch: Sequence[str]) -> torch.Tensor:
        captions.extend(batch)
        return encode(batch)

    monkeypatch.setattr(model.reranker, "encode_captions", encode_captions)
    model.generate(["a red square"], candidates=8, seeds=3, pruning=replace(PICTURES, group=2))
    assert captions == ["a red square"]


def test_an_image_to_continue_counts_among_the_rows(model: TextToImage) -> None:
    with pytest.raises(UserError, match=r"pruning.rows is 3 of 8, of which the image gives 3"):
        model.generate(["a"], candidates=4, seeds=0, prefix=[0] * 24, pruning=PICTURES)
    (generation,) = model.generate(["a"], candidates=4, seeds=0, prefix=[0] * 23, pruning=PICTURES)
    assert len(generation.candidates) == 2
