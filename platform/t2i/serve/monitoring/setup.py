"""The log and the traces of one process of a service."""

from __future__ import annotations

import logging

from t2i.logs import set_log_format
from t2i.serve.config import ServeConfig
from t2i.serve.monitoring.outcome import INTERNAL, outcome_of
from t2i.serve.monitoring.tracing import start_tracing


def set_up_monitoring(config: ServeConfig, component: str) -> None:
    """Let this process log and trace as the service is configured to; ``component`` names its spans' source.

    Raises:
        UserError: the environment asks for traces that cannot be sent.
    """
    set_log_format(config.log_format)
    logging.getLogger("ray.serve").addFilter(_is_unexpected)
    start_tracing(component)


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Keep all lines but Serve's tracebacks of what the caller can mend or has run out of time for: we log those."""
    error = record.exc_info[1] if record.exc_info else None
    return error is None or outcome_of(error) == INTERNAL
