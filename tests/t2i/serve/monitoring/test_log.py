"""What the log says of requests: one line at the end of each, a traceback only of what nobody expected."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from models.errors import UserError
from t2i.client import Client, ServiceError
from t2i.config import load_mapping
from t2i.sampling import RequestError
from t2i.serve.config import ServeConfig
from t2i.serve.monitoring.setup import _is_unexpected


def about(caplog: pytest.LogCaptureFixture, words: str) -> list[logging.LogRecord]:
    """The lines that have ``words``, once there is one."""
    end = time.monotonic() + 60
    while not (found := [record for record in caplog.records if words in record.getMessage()]):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def test_mistakes_and_deadlines_are_one_line_of_information(service: Any, caplog: pytest.LogCaptureFixture) -> None:
    with Client(service.address) as client:
        client.generate("a red taco", seed=7)
        with pytest.raises(ServiceError):
            client.generate("a red taco", candidates=65)
        with pytest.raises(ServiceError):
            client.generate("a red taco", candidates=64, timeout=0.3)
    (answered,) = about(caplog, " answered after ")
    (rejected,) = about(caplog, " rejected after ")
    (failed,) = about(caplog, " failed after ")
    assert answered.getMessage().endswith(" s")
    assert rejected.getMessage().endswith(" s, invalid: candidates is 65: use 1 to 64.")
    assert failed.getMessage().endswith(" s, deadline")
    assert {record.levelno for record in caplog.records if record.name.startswith("t2i")} == {logging.INFO}
    assert not any(record.exc_info for record in caplog.records)


def test_a_refusal_by_a_replica_is_one_line_there(service: Any, caplog: pytest.LogCaptureFixture) -> None:
    with Client(service.address) as client, pytest.raises(ServiceError):
        client.generate("a red taco", image=b"no image")
    (line,) = about(caplog, " refused by decoder.encode: ")
    assert line.levelno == logging.INFO
    assert not line.exc_info


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [
        (RequestError("caption", "caption is empty: say something."), False),
        (TimeoutError(), False),
        (ActorDiedError(), False),
        (ZeroDivisionError(), True),
        (None, True),
    ],
)
def test_serve_s_own_tracebacks_are_kept_of_what_nobody_expected(error: Exception | None, is_kept: bool) -> None:
    info = (type(error), error, None) if error else None
    record = logging.LogRecord("ray.serve", logging.ERROR, "", 0, "Request failed.", (), info)
    assert _is_unexpected(record) == is_kept


def test_a_format_that_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match="log_format is 'xml': use text or json"):
        load_mapping(ServeConfig, {"log_format": "xml"})
