"""What clients are told of exceptions."""

from __future__ import annotations

import pytest
from google.rpc import code_pb2, error_details_pb2

from t2i.serve.messages import QueueFullError
from t2i.serve.servicers.errors import LONGEST_PAUSE_S, status_of


@pytest.mark.parametrize(("late_s", "pause_s"), [(0.1, 1), (1.2, 2), (600.0, LONGEST_PAUSE_S)])
def test_who_finds_no_room_is_told_to_ask_again_soon(late_s: float, pause_s: int) -> None:
    status = status_of(QueueFullError(late_s), "an id")
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    assert (status.code, retry.retry_delay.ToSeconds()) == (code_pb2.RESOURCE_EXHAUSTED, pause_s)
    assert f"try again in {pause_s} s" in status.message
