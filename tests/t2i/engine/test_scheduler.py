"""Who gets which slot when: the scheduler by itself, without a model. A step is ``admit`` followed by ``advance``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from t2i.engine import Request, TokenProgress
from t2i.engine.scheduler import RunningCandidate, Scheduler
from t2i.sampling import RequestError, SamplingParams

N = 4
GUIDED = SamplingParams(guidance=2.0)


def request(
    name: str, candidates: int = 1, text: tuple[int, ...] | None = None, guided: bool = False, **fields: float
) -> Request:
    """A request whose text is its name, unless another is given."""
    sampling = GUIDED if guided else SamplingParams()
    return Request(name, text or tuple(name.encode()), candidates, seed=0, sampling=sampling, **fields)  # type: ignore[arg-type]


def scheduler_of(slots: int, *requests: Request, captions: int | None = None) -> Scheduler:
    scheduler = Scheduler(slots, captions or slots, N)
    for each in requests:
        scheduler.add(each)
    return scheduler


def names(running: list[RunningCandidate]) -> list[str]:
    """``a0`` for candidate 0 of request a."""
    return [f"{r.request.id}{r.candidate}" for r in running]


def step(scheduler: Scheduler) -> list[str]:
    """Run one step; the candidates that were admitted in it."""
    admitted = names(scheduler.admit())
    scheduler.advance()
    return admitted


def occupied(scheduler: Scheduler) -> list[int]:
    """Slots in use, each of which must be used once."""
    slots = [slot for r in scheduler.running.values() for slot in (r.slot, r.twin) if slot is not None]
    assert len(slots) == len(set(slots))
    assert set(slots) <= set(range(scheduler.slots))
    return sorted(slots)


def test_a_client_s_requests_are_done_in_the_order_in_which_an_even_share_would_end_them() -> None:
    scheduler = scheduler_of(5, request("a", 3), request("b", 1), request("c", 2))
    assert names(scheduler.admit()) == ["b0", "c0", "c1", "a0", "a1"]
    assert occupied(scheduler) == [0, 1, 2, 3, 4]
    assert names(scheduler.admit()) == []


def test_requests_of_equal_size_are_done_one_after_the_other() -> None:
    scheduler = scheduler_of(2, request("a", 3), request("b", 3))
    assert [step(scheduler) for _ in range(2 * N + 1)] == [
        ["a0", "a1"], *[[]] * (N - 1),
        ["a2", "b0"], *[[]] * (N - 1),
        ["b1", "b2"],
    ]  # fmt: skip


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    scheduler = scheduler_of(2, request("large", 100))
    step(scheduler)
    scheduler.add(request("small", 1))
    admitted = [name for _ in range(N) for name in step(scheduler)]
    assert admitted == ["small0", "large2"]


def test_a_large_request_does_not_wait_for_all_the_small_ones_that_come() -> None:
    """They come as fast as the engine works; if all shared it evenly, the large one would have its last at step 20."""
    scheduler = Scheduler(1, 1, 1)
    scheduler.add(request("large", 4))
    admitted = []
    for number in range(20):
        scheduler.add(request(f"small{number}"))
        admitted += step(scheduler)
    assert admitted[:2] == ["small00", "small10"]
    assert "large3" in admitted


def test_a_slot_is_filled_again_at_the_step_after_it_falls_free() -> None:
    scheduler = scheduler_of(1, request("a", 2))
    assert step(scheduler) == ["a0"]
    assert [step(scheduler) for _ in range(N)] == [*[[]] * (N - 1), ["a1"]]


def test_who_does_not_fit_holds_up_those_behind() -> None:
    """A guided request needs two slots at once; were the unguided ones behind it let past, it might wait for ever."""
    scheduler = scheduler_of(2, request("early"))
    step(scheduler)
    scheduler.add(request("guided", guided=True))
    scheduler.add(request("late"))
    assert [step(scheduler) for _ in range(N - 1)] == [[]] * (N - 1)
    assert step(scheduler) == ["guided0"]
    assert [step(scheduler) for _ in range(N)] == [*[[]] * (N - 1), ["late0"]]


def test_a_guided_candidate_has_a_twin_in_a_slot_of_its_own() -> None:
    scheduler = scheduler_of(5, request("a", 3, guided=True), request("b", 2))
    assert names(scheduler.admit()) == ["b0", "b1", "a0"]
    assert occupied(scheduler) == [0, 1, 2, 3]
    assert {r.request.id: r.twin is None for r in scheduler.running.values()} == {"a": False, "b": True}
    for _ in range(N):
        scheduler.advance()
    assert occupied(scheduler) == []
    assert names(scheduler.admit()) == ["a1", "a2"]


def test_guidance_is_refused_where_a_twin_never_fits() -> None:
    for scheduler in (scheduler_of(1), scheduler_of(4, captions=1)):
        with pytest.raises(RequestError, match="guidance takes two slots and captions"):
            scheduler.add(request("a", guided=True))


def test_an_id_is_free_again_when_its_request_has_left() -> None:
    scheduler = scheduler_of(1, request("a"))
    with pytest.raises(RequestError, match="'a' is in use"):
        scheduler.add(request("a"))
    scheduler.cancel("a")
    scheduler.add(request("a"))
    assert step(scheduler) == ["a0"]


def test_no_more_captions_run_at_once_than_there_is_room_for() -> None:
    scheduler = scheduler_of(6, request("a"), request("b"), request("c"), request("d", text=(97,)), captions=2)
    assert step(scheduler) == ["a0", "b0"]
    assert [step(scheduler) for _ in range(N)] == [*[[]] * (N - 1), ["c0", "d0"]]


def test_requests_of_one_caption_share_its_room() -> None:
    scheduler = scheduler_of(6, request("a", 2, text=(1,)), request("b", 2, text=(1,)), captions=1)
    assert sorted(step(scheduler)) == ["a0", "a1", "b0", "b1"]


def test_the_empty_caption_of_twins_takes_room_once() -> None:
    guided = [request(name, guided=True) for name in "abc"]
    assert step(scheduler_of(6, *guided, captions=3)) == ["a0", "b0"]


def test_candidates_of_a_caption_are_placed_side_by_side() -> None:
    scheduler = scheduler_of(6, request("a", 3), request("b", 3))
    scheduler.admit()
    assert [scheduler.running[slot].request.id for slot in range(6)] == list("aaabbb")
    assert all(running.slot == slot for slot, running in scheduler.running.items())


def test_placing_moves_no_candidate_that_runs_already() -> None:
    scheduler = scheduler_of(4, request("b", 1), request("a", 2))
    scheduler.admit()
    before = {slot: names([running]) for slot, running in scheduler.running.items()}
    scheduler.add(request("0"))
    assert names(scheduler.admit()) == ["00"]
    assert {slot: names([scheduler.running[slot]]) for slot in before} == before


def test_progress_counts_new_tokens_alone() -> None:
    scheduler = scheduler_of(1, request("a", 2, prefix=(7,)))  # type: ignore[arg-type]
    step(scheduler)
    (running,) = scheduler.running.values()
    assert running.tokens == 2
    assert scheduler.progress("a") == TokenProgress(1, 2 * (N - 1))
    assert scheduler.candidate_progress("a") == [TokenProgress(1, N - 1), TokenProgress(0, N - 1)]


def test_a_request_leaves_when_its_last_candidate_is_finished() -> None:
    scheduler = scheduler_of(1, request("a", 2))
    for _ in range(2 * N):
        assert scheduler.has_work
        step(scheduler)
    assert not scheduler.has_work


def test_dropping_saves_what_running_and_waiting_candidates_lack() -> None:
    scheduler = scheduler_of(2, request("a", 4))
    for _ in range(N + 1):
        step(scheduler)  # 0 and 1 are finished, 2 and 3 have a token
    scheduler.add(request("b", 2))
    assert scheduler.drop("a", {0, 2}) == N - 1
    assert scheduler.progress("a") == TokenProgress(2 * N + 2, 3 * N + 1)
    assert step(scheduler) == ["b0"]
    assert scheduler.drop("b", {1}) == N
    assert scheduler.progress("b") == TokenProgress(1, N)


def test_dropping_what_waits_takes_the_request_out_of_the_turns() -> None:
    scheduler = scheduler_of(1, request("a", 3), request("b", 3))
    step(scheduler)
    assert scheduler.drop("a", {1, 2}) == 2 * N
    assert [step(scheduler) for _ in range(N)] == [*[[]] * (N - 1), ["b0"]]
    assert scheduler.candidate_progress("b")[0] == TokenProgress(1, N)


def test_dropping_all_that_is_unfinished_ends_the_request() -> None:
    scheduler = scheduler_of(2, request("a", 3))
    for _ in range(N):
        step(scheduler)
    scheduler.drop("a", {2})
    assert not scheduler.has_work
    assert scheduler.drop("a", {0}) == 0


def test_cancelling_frees_slots_turns_and_captions_and_says_what_was_spent() -> None:
    scheduler = scheduler_of(3, request("a", 3, guided=True), request("b", 3), captions=2)
    assert step(scheduler) == ["a0"]
    assert scheduler.cancel("a") == 1
    assert occupied(scheduler) == []
    assert step(scheduler) == ["b0", "b1", "b2"]
    assert scheduler.cancel("a") == 0
    assert scheduler.cancel("unknown") == 0


def test_requests_expire_at_their_deadline_whether_they_wait_or_run() -> None:
    scheduler = scheduler_of(1, request("runs", deadline=10.0), request("waits", deadline=11.0), request("stays"))
    step(scheduler)
    step(scheduler)
    assert scheduler.expire(9.9) == {}
    assert scheduler.expire(10.0) == {"runs": 2}
    assert scheduler.expire(12.0) == {"waits": 0}
    assert step(scheduler) == ["stays0"]


def test_clients_share_the_slots_whatever_they_ask_for() -> None:
    hog = [replace(request(name, 8), client="x") for name in "abcd"]
    scheduler = scheduler_of(4, *hog)
    step(scheduler)
    scheduler.add(replace(request("e", 2), client="y"))
    for _ in range(N - 1):
        step(scheduler)
    assert sorted(step(scheduler)) == ["a4", "a5", "e0", "e1"]


def test_a_client_that_was_served_last_comes_last() -> None:
    scheduler = scheduler_of(1, *(replace(request(name, 2), client=name) for name in "ab"))
    assert [names_at for _ in range(4 * N) if (names_at := step(scheduler))] == [["a0"], ["b0"], ["a1"], ["b1"]]


def test_a_turn_is_an_eighth_of_the_slots() -> None:
    scheduler = scheduler_of(16, request("a", 5), *(replace(request(name, 5), client=name) for name in "bc"))
    assert names(scheduler.admit()) == [
        "a0",
        "a1",
        "b0",
        "b1",
        "c0",
        "c1",
        "a2",
        "a3",
        "b2",
        "b3",
        "c2",
        "c3",
        "a4",
        "b4",
        "c4",
    ]
