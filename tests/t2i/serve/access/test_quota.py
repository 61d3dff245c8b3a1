"""The bucket and the places of one key, with a clock that the test sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i.serve.access.quota import GRACE_S, Claim, Quota, QuotaExceededError


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quota(clock: Clock) -> Quota:
    return Quota(clock)


def claim(name: str, per_minute: int | None = 600, concurrent: int | None = None, deadline: float = 2000.0) -> Claim:
    return Claim(name, "alice", per_minute, concurrent, deadline)


def test_a_minutes_tokens_are_there_and_fill_evenly(quota: Quota, clock: Clock) -> None:
    quota.reserve(claim("a"), 600)
    with pytest.raises(
        QuotaExceededError, match=r"^key alice may ask for 600 image tokens a minute: 100 more .* 10 s\.$"
    ):
        quota.reserve(claim("b"), 100)
    clock.now += 9.9
    with pytest.raises(QuotaExceededError) as caught:
        quota.reserve(claim("b"), 100)
    assert caught.value.retry_after_s == pytest.approx(0.1)
    clock.now += caught.value.retry_after_s + 1e-6
    quota.reserve(claim("b"), 100)


def test_it_never_holds_more_than_a_minutes_tokens(quota: Quota, clock: Clock) -> None:
    quota.reserve(claim("a"), 1)
    clock.now += 3600
    quota.reserve(claim("b"), 600)
    with pytest.raises(QuotaExceededError):
        quota.reserve(claim("c"), 1)


def test_a_request_of_more_than_a_minute_leaves_a_debt(quota: Quota, clock: Clock) -> None:
    quota.reserve(claim("a"), 1800)
    with pytest.raises(QuotaExceededError) as caught:
        quota.reserve(claim("b"), 100)
    assert caught.value.retry_after_s == pytest.approx(130)  # 1200 of debt and 100, at 10 a second
    clock.now += 130.001
    quota.reserve(claim("b"), 100)


def test_what_was_not_spent_comes_back_and_losses_of_the_service_are_not_charged(quota: Quota) -> None:
    quota.reserve(claim("a"), 600)
    quota.close(claim("a"), spent=200)
    quota.reserve(claim("b"), 400)
    quota.close(claim("b"), spent=900)
    with pytest.raises(QuotaExceededError) as caught:
        quota.reserve(claim("c"), 60)
    assert caught.value.retry_after_s == pytest.approx(6)


def test_repeated_calls_count_once(quota: Quota) -> None:
    one = claim("a", concurrent=1)
    for _ in range(2):
        quota.open(one)
        quota.reserve(one, 300)
    quota.reserve(claim("b"), 300)
    for _ in range(2):
        quota.close(one, spent=100)
    with pytest.raises(QuotaExceededError):
        quota.reserve(claim("c"), 201)
    quota.reserve(claim("c"), 200)


def test_places_are_given_back_by_the_end_or_by_the_deadline_of_a_lost_gateway(quota: Quota, clock: Clock) -> None:
    quota.open(claim("a", concurrent=2))
    quota.open(claim("b", concurrent=2, deadline=1010.0))
    with pytest.raises(QuotaExceededError, match="2 requests at once, and may have 2") as caught:
        quota.open(claim("c", concurrent=2))
    assert caught.value.retry_after_s > 0
    quota.close(claim("a", concurrent=2), spent=0)
    quota.open(claim("c", concurrent=2))
    clock.now = 1010.0 + GRACE_S + 0.1
    quota.open(claim("d", concurrent=2))
    with pytest.raises(QuotaExceededError):
        quota.open(claim("e", concurrent=2))


def test_changed_limits_hold_from_the_next_request_on(quota: Quota, clock: Clock) -> None:
    quota.reserve(claim("a", per_minute=600), 600)
    clock.now += 30
    quota.reserve(claim("b", per_minute=100), 50)
    with pytest.raises(QuotaExceededError):
        quota.reserve(claim("c", per_minute=100), 100)
    quota.reserve(claim("c", per_minute=None), 10**9)


@given(st.lists(st.tuples(st.floats(0, 120), st.integers(1, 2000), st.floats(0, 1)), max_size=40))
def test_no_more_is_ever_spent_than_a_minutes_tokens_and_what_has_filled(
    steps: list[tuple[float, int, float]],
) -> None:
    clock = Clock()
    quota, begin, spent = Quota(clock), clock.now, 0
    for number, (pause, tokens, share) in enumerate(steps):
        clock.now += pause
        one = claim(str(number))
        try:
            quota.reserve(one, tokens)
        except QuotaExceededError as error:
            clock.now += error.retry_after_s + 1e-6
            quota.reserve(one, tokens)  # "when" is exact
        spent_now = int(tokens * share)
        quota.close(one, spent_now)
        # What is spent before this request's own debt stays within the bucket and its filling.
        assert spent <= 600 + (clock.now - begin) * 10 + 1e-3
        spent += spent_now
