"""When a request is sent again, by a clock that the test sets; and what its caller knows then."""

from __future__ import annotations

import grpc
import pytest

from t2i.client.answers import Event, GeneratedImage, GenerationProgress, Preview
from t2i.client.errors import InvalidRequestError, ServiceBusyError, ServiceError, ServiceUnreachableError
from t2i.client.retries import ATTEMPTS, Furthest, Retries

LOST = ServiceUnreachableError("gone", grpc.StatusCode.UNAVAILABLE)


def test_a_busy_service_is_asked_again_when_it_says_up_to_the_deadline() -> None:
    now = [0.0]
    retries = Retries(100.0, lambda: now[0])
    for _ in range(4):
        assert retries.pause(ServiceBusyError("busy", 20.0), has_answered=True) == 20.0
        now[0] += 21.0
    assert retries.seconds_left == pytest.approx(16.0)
    with pytest.raises(ServiceBusyError):
        retries.pause(ServiceBusyError("busy", 20.0), has_answered=True)


def test_a_lost_service_is_waited_for_ever_longer_and_not_for_ever() -> None:
    retries = Retries(1000.0, lambda: 0.0)
    pauses = [retries.pause(LOST, has_answered=True) for _ in range(ATTEMPTS - 1)]
    assert pauses[:4] == [0.5, 1.0, 2.0, 2.0]
    with pytest.raises(ServiceUnreachableError):
        retries.pause(LOST, has_answered=True)


def test_a_service_that_has_never_answered_is_not_waited_for() -> None:
    with pytest.raises(ServiceUnreachableError):
        Retries(1000.0, lambda: 0.0).pause(LOST, has_answered=False)


@pytest.mark.parametrize(
    "error", [InvalidRequestError("no", "seed"), ServiceError("late", grpc.StatusCode.DEADLINE_EXCEEDED)]
)
def test_other_errors_are_told_at_once(error: ServiceError) -> None:
    with pytest.raises(type(error)):
        Retries(1000.0, lambda: 0.0).pause(error, has_answered=True)


def test_what_is_known_is_not_told_again() -> None:
    furthest = Furthest()
    image = GeneratedImage(b"", "png", 3, 0.5)
    preview = Preview(b"", "png", 3, 2, None)
    first: list[Event] = [progress(10), preview, progress(20), image]
    assert all(furthest.is_new(event) for event in first)
    again: list[Event] = [progress(10), preview, progress(20), Preview(b"", "png", 3, 4, None), image, progress(30)]
    assert [furthest.is_new(event) for event in again] == [False, False, True, True, False, True]


def progress(tokens: int) -> GenerationProgress:
    return GenerationProgress("sample", tokens, 100, 0, 0, 0.0)
