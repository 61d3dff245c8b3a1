"""One log format for drivers, workers and servers."""

from __future__ import annotations

import logging


def get_logger(name: str) -> logging.Logger:
    """A logger under ``t2i`` that prints to stderr, set up on first use and only if nobody else has."""
    root = logging.getLogger("t2i")
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        root.propagate = False
    return logging.getLogger(f"t2i.{name}")
