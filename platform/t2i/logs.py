"""The log format of drivers, workers and servers."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def get_logger(name: str) -> logging.Logger:
    """Return the logger ``t2i.<name>``; it prints to stderr unless the program has configured ``t2i`` itself."""
    root = logging.getLogger("t2i")
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_FORMATTERS["text"])
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        root.propagate = False
    return logging.getLogger(f"t2i.{name}")


def set_log_format(log_format: str) -> None:
    """Let the loggers of ``t2i`` print as ``text`` or ``json`` from now on, unless the program has configured them."""
    get_logger("log")
    for handler in logging.getLogger("t2i").handlers:
        if handler.formatter in _FORMATTERS.values():
            handler.setFormatter(_FORMATTERS[log_format])


def name_request(request_id: str) -> None:
    """Let the JSON lines of this task, and of tasks and threads that it starts, have the id of a request."""
    _request_id.set(request_id)


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and request_id and exception if there are any.

    A line that another task logs about a request names it by ``extra={"request_id": ...}``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := getattr(record, "request_id", "") or _request_id.get():
            line["request_id"] = request_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


_FORMATTERS = {
    "text": logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"),
    "json": JsonLines(),
}
LOG_FORMATS = tuple(_FORMATTERS)
