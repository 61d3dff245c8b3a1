"""How spare rows are dealt out, and which drafts are accepted: numbers by hand, without a model."""

from __future__ import annotations

import pytest
import torch

from models.errors import UserError
from t2i.engine.drafting import AUTO_WINDOW, TRY_AGAIN, Drafting, Share, window_of
from t2i.engine.rows import Rows, draft_source, windows

from .test_scheduler import request, scheduler_of

CPU = torch.device("cpu")


def test_rows_are_dealt_evenly_nearest_places_first() -> None:
    shares = [Share(100)] * 3
    assert [Drafting(16).deal(spare, shares) for spare in (0, 1, 3, 7, 1000)] == [
        [0, 0, 0], [1, 0, 0], [1, 1, 1], [3, 2, 2], [15, 15, 15],
    ]  # fmt: skip


def test_nobody_drafts_beyond_its_share_and_others_get_what_it_leaves() -> None:
    assert Drafting(16).deal(9, [Share(0), Share(2), Share(100)]) == [0, 2, 7]
    assert Drafting(1).deal(9, [Share(100)]) == [0]


def test_a_draft_of_a_guided_candidate_takes_two_rows() -> None:
    assert Drafting(16).deal(7, [Share(100), Share(100), Share(100, rows=2)]) == [3, 2, 1]
    assert Drafting(16).deal(1, [Share(100, rows=2)]) == [0]


def test_places_that_never_come_true_get_no_rows_but_are_tried_again() -> None:
    drafting, shares = Drafting(4), [Share(100)]
    dealt = []
    for _ in range(1000):
        (drafts,) = drafting.deal(10, shares)
        drafting.note([(drafts, min(drafts, 1))])  # only the first draft is ever right
        dealt.append(drafts)
    assert dealt[:3] == [3, 3, 3]
    later = dealt[-2 * TRY_AGAIN :]
    assert (later.count(3), later.count(1)) == (2, 2 * TRY_AGAIN - 2)


def test_a_place_that_comes_true_again_gets_rows_again() -> None:
    drafting, shares = Drafting(2), [Share(100)]
    for _ in range(500):
        drafting.note([(drafts, 0) for drafts in drafting.deal(1, shares)])
    while drafting.deal(1, shares) != [1]:
        pass
    drafting.note([(1, 1)])
    assert drafting.deal(1, shares) == [1]


def test_what_came_true_is_counted_by_place_over_all_candidates() -> None:
    drafting = Drafting(3)
    for _ in range(1000):
        drafting.deal(10, [])
        drafting.note([(2, 0), (2, 0), (1, 1)])
    assert drafting.deal(10, [Share(2)]) == [1]


@pytest.mark.parametrize(("word", "window"), [("off", 1), ("auto", AUTO_WINDOW), ("1", 1), ("7", 7)])
def test_words_for_the_window(word: str, window: int) -> None:
    assert window_of(word) == window


@pytest.mark.parametrize("word", ["0", "-2", "on", "", "1.5", "²", "1025"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(UserError, match="use 'off', 'auto' or a number from 1 to 1024"):
        window_of(word)


def test_rows_of_idle_slots_go_to_candidates_and_their_twins() -> None:
    scheduler = scheduler_of(8, request("a"), request("b", guided=True))
    scheduler.admit()
    (a, b), idle = scheduler.running.values(), scheduler.idle_slots
    given = windows([a, b], [1, 2], idle)
    assert given == {a.slot: [a.slot, 3], b.slot: [b.slot, 4, 5], b.twin: [b.twin, 6, 7]}
    rows = Rows(given, 8, CPU)
    assert rows.slots.tolist()[3:] == [a.slot, b.slot, b.slot, b.twin, b.twin]
    assert rows.places.tolist() == [0, 0, 0, 1, 1, 2, 1, 2]
    assert rows.of([b.slot, a.slot]) == [b.slot, 4, 5, a.slot, 3]


def test_tokens_are_accepted_up_to_the_first_draft_that_is_wrong() -> None:
    # Slot 0 has rows 0 5 6 7, slot 1 has 1 8, slot 2 has no draft, slot 3 has 3 4. Of slot 0 the last draft is right,
    # though one before it is wrong: it does not count.
    rows = Rows({0: [0, 5, 6, 7], 1: [1, 8], 2: [2], 3: [3, 4]}, 9, CPU)
    fed = torch.tensor([90, 91, 92, 93, 13, 10, 99, 12, 11])
    drawn = torch.tensor([10, 14, 0, 13, 0, 11, 12, 0, 0])
    assert dict(zip(rows.drafting, rows.accepted(fed, drawn).tolist(), strict=True)) == {0: 2, 1: 1, 3: 2}


def test_a_draft_is_the_last_draw_of_its_place_or_else_the_token_above() -> None:
    """A grid of four columns, drawn up to position 6; the fed positions are 5 to 16."""
    positions = torch.arange(5, 17)
    assert draft_source(positions, torch.tensor(6), 4).tolist() == [5, 6, 3, 4, 5, 6, 3, 4, 5, 6, 3, 4]
    assert draft_source(torch.arange(1, 4), torch.tensor(1), 4).tolist() == [1, 1, 1]
