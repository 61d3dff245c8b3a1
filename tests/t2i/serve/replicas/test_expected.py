"""What Serve logs of the exceptions of a replica."""

from __future__ import annotations

import logging

import pytest

from t2i.sampling import RequestError
from t2i.serve.messages import QueueFullError
from t2i.serve.replicas.expected import log_only_faults


@pytest.mark.parametrize(
    ("error", "is_logged"),
    [(RequestError("seed", "seed is -1."), 0), (QueueFullError(3.0), 0), (TimeoutError(), 0), (ZeroDivisionError(), 1)],
)
def test_only_faults_are_logged(caplog: pytest.LogCaptureFixture, error: Exception, is_logged: int) -> None:
    log_only_faults()
    logger = logging.getLogger("ray.serve")
    logger.addHandler(caplog.handler)  # Ray's loggers do not propagate
    try:
        raise error
    except type(error):
        logger.exception("Request failed.")
    logger.removeHandler(caplog.handler)
    assert len({record.message for record in caplog.records}) == is_logged
