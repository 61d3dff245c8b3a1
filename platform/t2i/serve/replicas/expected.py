"""What a replica refuses is an answer, not a fault: Serve would log each with its traceback."""

from __future__ import annotations

import logging

from t2i.sampling import RequestError
from t2i.serve.messages import QueueFullError

EXPECTED = (RequestError, QueueFullError, TimeoutError)
"""What callers can mend; the gateway tells them how."""


class _OnlyFaults(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is of anything else."""
        return not (record.exc_info and isinstance(record.exc_info[1], EXPECTED))


_ONLY_FAULTS = _OnlyFaults()


def log_only_faults() -> None:
    """Keep what is expected out of Serve's log in this process."""
    logging.getLogger("ray.serve").addFilter(_ONLY_FAULTS)  # one that is there already is not added again
